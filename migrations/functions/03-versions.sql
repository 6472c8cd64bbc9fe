-- Keeps memory_node in step with a head that is about to change. What an id means is decided in lib/contexts/node-ids.ts.
create or replace function keep_memory_node(p_before context, p_next context) returns void language plpgsql as $$
declare
  v_hash constant text := '[0-9a-f]{40}';
  v_is_node boolean := p_next.state = 'live' and case p_next.kind
    when 'memory.entity' then p_next.id ~ ('^entity:' || v_hash || '$')
    when 'memory.relation' then p_next.id ~ ('^relation:' || v_hash || ':' || v_hash || ':' || v_hash || '$')
    else false end;
begin
  if p_next.id not like 'entity:%' and p_next.id not like 'relation:%' then return; end if;
  -- What comes back begins anew, at the end.
  if not v_is_node or not is_live(p_before) then
    delete from memory_node where space_id = p_next.space_id and id = p_next.id;
  end if;
  if v_is_node then
    insert into memory_node (space_id, id, from_id, to_id)
    values (p_next.space_id, p_next.id,
      case p_next.kind when 'memory.relation' then 'entity:' || split_part(p_next.id, ':', 2) end,
      case p_next.kind when 'memory.relation' then 'entity:' || split_part(p_next.id, ':', 3) end)
    on conflict do nothing;
  end if;
end $$;

-- Makes p_next the head: its row, its version, and the retention that follows from it, at a cost that does not depend
-- on how many versions there are. Called under the context's lock.
create or replace function store_version(
  p_before context, p_next context, p_operation text, p_options jsonb, p_merged_from jsonb default null, p_message text default null
) returns void language plpgsql as $$
declare
  v_retained integer := (p_options ->> 'retained')::integer;
  v_retained_days double precision := (p_options ->> 'retainedDays')::double precision;
  v_gone bytea[];
  v_count integer;
begin
  insert into context_version (space_id, id, version, operation, hash, content_type, size_bytes, kind, parent_id, metadata,
      expires_at, actor_kind, actor_id, created_at, merged_from, message)
    values (p_next.space_id, p_next.id, p_next.version, p_operation, p_next.hash, p_next.content_type, p_next.size_bytes,
      p_next.kind, p_next.parent_id, p_next.metadata, p_next.expires_at, p_next.actor_kind, p_next.actor_id,
      p_next.updated_at, p_merged_from, p_message);

  if p_next.kept_versions > v_retained then
    with oldest as (
      select version from context_version
      where space_id = p_next.space_id and id = p_next.id and version < p_next.version and not pinned
      order by version limit least(p_next.kept_versions - v_retained, 16)
    ), deleted as (
      delete from context_version v using oldest
      where v.space_id = p_next.space_id and v.id = p_next.id and v.version = oldest.version
        and (v_retained_days is null or v.created_at < clock_timestamp() - make_interval(secs => v_retained_days * 86400))
      returning v.hash
    )
    select array_agg(hash), count(*) into v_gone, v_count from deleted;
    p_next.kept_versions := p_next.kept_versions - v_count;
    if v_count > 0 then perform note_garbage(v_gone); end if;
  end if;

  insert into context values (p_next.*)
  on conflict (space_id, id) do update set
    version = excluded.version, state = excluded.state, hash = excluded.hash, content_type = excluded.content_type,
    size_bytes = excluded.size_bytes, kind = excluded.kind, parent_id = excluded.parent_id, metadata = excluded.metadata,
    expires_at = excluded.expires_at, actor_kind = excluded.actor_kind, actor_id = excluded.actor_id,
    created_at = excluded.created_at, updated_at = excluded.updated_at, kept_versions = excluded.kept_versions;

  perform keep_memory_node(p_before, p_next);

  -- A tombstone's metadata is empty, so these two lines hold the terms of live heads and no others.
  if p_before.metadata <> '{}' and p_before.metadata <> p_next.metadata then
    delete from context_term where space_id = p_next.space_id and id = p_next.id;
  end if;
  if p_next.metadata <> '{}' and p_before.metadata is distinct from p_next.metadata then
    insert into context_term (space_id, term, id)
    select p_next.space_id, term, p_next.id from metadata_terms(p_next.metadata) term;
  end if;
end $$;

create or replace function space_clock() returns bigint language sql stable as $$
  select clock from space where id = current_setting('lamina.space');
$$;

-- The head after p_head, written now by this actor; time only moves forward, by a millisecond at least.
create or replace function next_head(p_head context, p_id text, p_actor jsonb) returns context language plpgsql as $$
declare
  v_next context := p_head;
begin
  v_next.space_id := current_setting('lamina.space');
  v_next.id := p_id;
  v_next.version := coalesce(p_head.version, 0) + 1;
  v_next.kept_versions := coalesce(p_head.kept_versions, 0) + 1;
  v_next.actor_kind := p_actor ->> 'kind';
  v_next.actor_id := p_actor ->> 'id';
  v_next.updated_at := greatest(date_trunc('milliseconds', clock_timestamp()), p_head.updated_at + interval '1 millisecond');
  v_next.created_at := case when p_head.state = 'erased' then v_next.updated_at else coalesce(p_head.created_at, v_next.updated_at) end;
  return v_next;
end $$;

-- Whether a precondition on a version or on a live head does not hold; what was erased never was.
create or replace function is_stale(p_op jsonb, p_head context) returns boolean language sql as $$
  select (p_op ? 'ifLive' and not is_live(p_head)) or (p_op ? 'ifVersion' and (p_op ->> 'ifVersion')::integer <>
    case when p_head.version is null or p_head.state = 'erased' then 0 else p_head.version end);
$$;

create or replace function tombstone_of(p_head context, p_actor jsonb) returns context language plpgsql as $$
declare
  v_next context := next_head(p_head, p_head.id, p_actor);
begin
  v_next.state := 'deleted';
  v_next.hash := null;
  v_next.content_type := null;
  v_next.size_bytes := 0;
  v_next.parent_id := null;
  v_next.metadata := '{}';
  v_next.expires_at := null;
  return v_next;
end $$;

create or replace function to_change(p_before context, p_after context, p_operation text, p_origin text) returns change
language sql as $$
  select row(p_after.space_id, 0, 'context', p_after.id, p_after.version, p_operation, p_after.hash, p_before.parent_id,
    p_after.parent_id, null, p_after.actor_kind, p_after.actor_id, p_origin, p_after.updated_at)::change;
$$;

-- Gives each change its tick, in the order it stands, and moves the clock once. Answers {clock, changes}.
create or replace function record_changes(p_changes change[]) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_count integer := coalesce(array_length(p_changes, 1), 0);
  v_clock bigint;
begin
  if v_count = 0 then return jsonb_build_object('clock', space_clock(), 'changes', '[]'::jsonb); end if;
  update space set clock = clock + v_count where id = v_space returning clock into v_clock;
  if not found then raise exception 'the space is closed' using errcode = 'LM003'; end if;
  for v_index in 1 .. v_count loop
    p_changes[v_index].tick := v_clock - v_count + v_index;
  end loop;
  insert into change select c.* from unnest(p_changes) c;
  return jsonb_build_object('clock', v_clock, 'changes', (select jsonb_agg(to_change_json(c) order by c.tick) from unnest(p_changes) c));
end $$;
