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
  v_head := lock_head(p_id);
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
  return jsonb_build_object('clock', space_clock(), 'known', coalesce(v_head.state <> 'erased', false),
    'version', to_version(v_version, v_head));
end $$;

-- Removes all that is known of one locked context; what stays is its highest version number, one change and one audit
-- line. Answers with the hashes whose bytes may go and how many versions went.
create or replace function erase_one(p_head context, p_actor jsonb, out hashes bytea[], out versions integer, out peers text[])
language plpgsql as $$
declare
  v_next context := next_head(p_head, p_head.id, p_actor);
  v_held bytea[];
begin
  with deleted as (
    delete from context_version where space_id = p_head.space_id and id = p_head.id returning hash
  ) select coalesce(array_agg(hash) filter (where hash is not null), '{}'), count(*) into hashes, versions from deleted;
  select e.peers, e.hashes into peers, v_held from erase_from_peers(p_head.id) e;
  hashes := hashes || v_held;
  delete from context_term where space_id = p_head.space_id and id = p_head.id;
  delete from memory_node where space_id = p_head.space_id and id = p_head.id;
  delete from upload where space_id = p_head.space_id and used_by = p_head.id;
  update change set kind = 'erased', id = null, version = null, hash = null, actor_kind = null, actor_id = null, origin = null
    where space_id = p_head.space_id and id = p_head.id;
  update context set version = p_head.version, state = 'erased', hash = null, content_type = null, size_bytes = 0, kind = 'note',
      parent_id = null, metadata = '{}', expires_at = null, actor_kind = v_next.actor_kind, actor_id = v_next.actor_id,
      created_at = v_next.updated_at, updated_at = v_next.updated_at, kept_versions = 0
    where space_id = p_head.space_id and id = p_head.id;
end $$;

create or replace function erase_change(p_head context, p_options jsonb) returns change language sql as $$
  select row(p_head.space_id, 0, 'context', p_head.id, p_head.version, 'erase', null, p_head.parent_id, null, null,
    p_options -> 'actor' ->> 'kind', p_options -> 'actor' ->> 'id', p_options ->> 'origin', clock_timestamp())::change;
$$;

-- p_erase: {id, children: fail | delete | orphan, ifVersion?, ifLive?}. A child that is no longer alive is left to cleanup.
create or replace function erase_context(p_erase jsonb, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_id text := p_erase ->> 'id';
  v_mode text := p_erase ->> 'children';
  v_cascade integer := (p_options ->> 'cascade')::integer;
  v_head context;
  v_child context;
  v_next context;
  v_recorded jsonb;
  v_answer jsonb;
  v_refusal jsonb;
  v_below text[];
  v_erased text[];
  v_one record;
  v_hashes bytea[] := '{}';
  v_hash bytea;
  v_changes change[] := '{}';
  v_versions integer := 0;
  v_peers text[] := '{}';
  v_entries integer;
  v_chunks integer;
  v_ticked jsonb;
begin
  perform lock_tree();
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  v_head := lock_head(v_id);
  v_below := contexts_below(v_id, v_mode, case v_mode when 'fail' then 9 else v_cascade end);
  v_refusal := case
    when v_head.version is null or v_head.state = 'erased' then '{"outcome": "not_found"}'
    when is_stale(p_erase, v_head) then jsonb_build_object('outcome', 'stale', 'head', to_head(v_head))
    when v_mode = 'fail' and v_below <> '{}' then jsonb_build_object('outcome', 'has_children', 'children', v_below)
    when coalesce(array_length(v_below, 1), 0) >= v_cascade then '{"outcome": "cascade_too_large"}'
  end;
  if v_refusal is not null then
    perform release_key(p_options);
    return v_refusal || jsonb_build_object('clock', space_clock());
  end if;

  v_erased := case v_mode when 'delete' then v_below || v_id else array[v_id] end;
  if v_mode = 'orphan' then
    for v_child in select h.* from unnest(v_below) below cross join lateral lock_head(below) h loop
      continue when not is_live(v_child) or v_child.parent_id is null;
      v_next := next_head(v_child, v_child.id, p_options -> 'actor');
      v_next.parent_id := null;
      perform store_version(v_child, v_next, 'put', p_options);
      v_changes := v_changes || to_change(v_child, v_next, 'put', p_options ->> 'origin');
    end loop;
  end if;
  -- All contexts are locked before the first is erased, so that nobody who holds one waits for a content of ours.
  perform lock_head(erased) from unnest(v_erased) erased;
  foreach v_id in array v_erased loop
    v_child := lock_head(v_id);
    continue when v_child.version is null or v_child.state = 'erased' or (v_id <> v_head.id and v_child.parent_id is null);
    select * into v_one from erase_one(v_child, p_options -> 'actor');
    v_versions := v_versions + v_one.versions;
    v_hashes := v_hashes || v_one.hashes;
    v_peers := v_peers || v_one.peers;
    v_changes := v_changes || erase_change(v_child, p_options);
  end loop;
  v_chunks := drop_documents(v_erased);
  for v_hash in select distinct hash from unnest(v_hashes) hash order by hash loop
    perform from content where space_id = v_space and hash = v_hash and part = 0 for update;
    delete from content where space_id = v_space and hash = v_hash
      and not is_content_held(v_hash);
  end loop;
  -- A request that is sent again must not write again what was erased, so its key stays, without an answer.
  update idempotency set answer = null, ids = '{}' where space_id = v_space and ids && v_erased;
  insert into audit (space_id, id, actor_kind, actor_id, action, target)
    values (v_space, p_options ->> 'auditId', p_options -> 'actor' ->> 'kind', p_options -> 'actor' ->> 'id', 'context.erase', v_head.id);
  v_ticked := record_changes(v_changes);
  -- Like whoever ends an event: after the tick.
  perform erase_from_inbox(v_erased);
  -- After the tick: see keep_entry.
  delete from cache_entry where space_id = v_space and deps <> '{}';
  get diagnostics v_entries = row_count;
  v_answer := jsonb_build_object('outcome', 'erased', 'versions', v_versions, 'entries', v_entries, 'chunks', v_chunks,
    'peers', array(select distinct peer from unnest(v_peers) peer order by peer));
  perform keep_answer(p_options, v_answer);
  return v_answer || v_ticked;
end $$;
