-- Pins a version or lets it go: pinned versions do not count for retention and survive it.
create or replace function pin_version(p_id text, p_version integer, p_pinned boolean, p_options jsonb) returns jsonb
language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_head context;
  v_version context_version;
  v_recorded jsonb;
begin
  v_recorded := take_key(p_options, array[p_id]);
  if v_recorded is not null then return v_recorded; end if;
  perform lock_context(p_id);
  select * into v_head from context where space_id = v_space and id = p_id for update;
  select * into v_version from context_version where space_id = v_space and id = p_id and version = p_version;
  if v_version.version is null then
    perform release_key(p_options);
  else
    if v_version.pinned <> p_pinned then
      update context_version set pinned = p_pinned where space_id = v_space and id = p_id and version = p_version;
      update context set kept_versions = kept_versions + case when p_pinned then -1 else 1 end
        where space_id = v_space and id = p_id;
      v_version.pinned := p_pinned;
    end if;
    perform keep_answer(p_options, '{}');
  end if;
  return jsonb_build_object('clock', (select clock from space where id = v_space),
    'known', coalesce(v_head.state <> 'erased', false), 'version', to_version(v_version, v_head));
end $$;

-- Removes all that is known of one context; what stays is its highest version number, one change and one audit line.
-- Called under the tree lock, so nobody who holds one of its contents waits for a context of ours.
create or replace function erase_one(p_head context, p_actor jsonb) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_hashes bytea[];
  v_hash bytea;
  v_versions integer;
  v_next context := next_head(p_head, p_head.id, p_actor);
begin
  with deleted as (
    delete from context_version where space_id = v_space and id = p_head.id returning hash
  ) select array_agg(distinct hash) filter (where hash is not null), count(*) into v_hashes, v_versions from deleted;
  foreach v_hash in array coalesce(v_hashes, '{}') loop
    perform pg_advisory_xact_lock(content_lock(v_hash));
  end loop;
  perform collect_contents(coalesce(v_hashes, '{}'));
  delete from idempotency where space_id = v_space and p_head.id = any (ids) and answer is not null;
  update change set kind = 'erased', id = null, version = null, hash = null, actor_kind = null, actor_id = null, origin = null
    where space_id = v_space and id = p_head.id;
  update context set version = p_head.version, state = 'erased', hash = null, content_type = null, size_bytes = 0, kind = 'note',
      parent_id = null, metadata = '{}', expires_at = null, actor_kind = v_next.actor_kind, actor_id = v_next.actor_id,
      created_at = v_next.updated_at, updated_at = v_next.updated_at, kept_versions = 0
    where space_id = v_space and id = p_head.id;
  return v_versions;
end $$;

create or replace function erase_context(p_id text, p_children text, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_actor jsonb := p_options -> 'actor';
  v_origin text := p_options ->> 'origin';
  v_head context;
  v_child context;
  v_next context;
  v_recorded jsonb;
  v_answer jsonb;
  v_changes change[] := '{}';
  v_versions integer := 0;
  v_contexts integer := 0;
begin
  perform lock_tree();
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  perform lock_context(p_id);
  select * into v_head from context where space_id = v_space and id = p_id for update;
  if v_head.version is null or v_head.state = 'erased' then
    perform release_key(p_options);
    return jsonb_build_object('clock', (select clock from space where id = v_space), 'outcome', 'not_found');
  end if;
  for v_child in
    with recursive under as (
      select c as node, 1 as level from context c where c.space_id = v_space and c.parent_id = p_id
      union all
      select c, under.level + 1 from under join context c on c.space_id = v_space and c.parent_id = (under.node).id
      where p_children = 'delete'
    )
    select (node).* from under order by level desc, (node).id limit (p_options ->> 'cascade')::integer
  loop
    if p_children = 'fail' then
      perform release_key(p_options);
      return jsonb_build_object('clock', (select clock from space where id = v_space), 'outcome', 'has_children', 'children', jsonb_build_array(v_child.id));
    end if;
    perform lock_context(v_child.id);
    select * into v_child from context where space_id = v_space and id = v_child.id for update;
    if p_children = 'delete' then
      v_versions := v_versions + erase_one(v_child, v_actor);
      v_changes := v_changes || erase_change(v_child, v_actor, v_origin);
    else
      v_next := next_head(v_child, v_child.id, v_actor);
      v_next.parent_id := null;
      perform store_version(v_next, 'put', null, null, (p_options ->> 'retained')::integer, (p_options ->> 'retainedDays')::double precision);
      v_changes := v_changes || to_change(v_child, v_next, 'put', v_origin);
    end if;
    v_contexts := v_contexts + 1;
  end loop;
  if v_contexts >= (p_options ->> 'cascade')::integer then
    raise exception 'refused' using errcode = 'LM001',
      detail = jsonb_build_object('index', 0, 'id', p_id, 'outcome', 'cascade_too_large')::text;
  end if;
  v_versions := v_versions + erase_one(v_head, v_actor);
  v_changes := v_changes || erase_change(v_head, v_actor, v_origin);
  insert into audit (space_id, id, actor_kind, actor_id, action, target)
    values (v_space, p_options ->> 'auditId', v_actor ->> 'kind', v_actor ->> 'id', 'context.erase', p_id);
  v_answer := jsonb_build_object('outcome', 'erased', 'versions', v_versions);
  perform keep_answer(p_options, v_answer);
  return v_answer || jsonb_build_object('clock', record_changes(v_changes));
end $$;

create or replace function erase_change(p_head context, p_actor jsonb, p_origin text) returns change language sql as $$
  select row(p_head.space_id, 0, 'context', p_head.id, p_head.version, 'erase', null, p_head.parent_id, null, null,
    p_actor ->> 'kind', p_actor ->> 'id', p_origin, clock_timestamp())::change;
$$;
