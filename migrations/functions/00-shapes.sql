-- The shapes in which heads, contents and changes leave the database; times in milliseconds since 1970.

create or replace function to_ms(p_time timestamptz) returns bigint language sql immutable as $$
  select (extract(epoch from p_time) * 1000)::bigint;
$$;

-- Metadata travels as text inside the JSON, so that its numbers reach the caller as they stand here.
create or replace function to_head(p_head context) returns jsonb language sql as $$
  select case when p_head.version is null then null else jsonb_build_object(
    'id', p_head.id, 'version', p_head.version, 'state', p_head.state, 'hash', encode(p_head.hash, 'hex'),
    'contentType', p_head.content_type, 'sizeBytes', p_head.size_bytes, 'kind', p_head.kind, 'parentId', p_head.parent_id,
    'metadata', p_head.metadata::text, 'expiresMs', to_ms(p_head.expires_at), 'actorKind', p_head.actor_kind,
    'actorId', p_head.actor_id, 'createdMs', to_ms(p_head.created_at), 'updatedMs', to_ms(p_head.updated_at)) end;
$$;

-- A version in the shape of a head; p_head lends what belongs to the context as a whole.
create or replace function to_version(p_version context_version, p_head context) returns jsonb language sql as $$
  select case when p_version.version is null then null else jsonb_build_object(
    'id', p_version.id, 'version', p_version.version, 'state', case when p_version.hash is null then 'deleted' else 'live' end,
    'hash', encode(p_version.hash, 'hex'), 'contentType', p_version.content_type, 'sizeBytes', p_version.size_bytes,
    'kind', p_version.kind, 'parentId', p_version.parent_id, 'metadata', p_version.metadata::text,
    'expiresMs', to_ms(p_version.expires_at), 'actorKind', p_version.actor_kind, 'actorId', p_version.actor_id,
    'createdMs', to_ms(p_head.created_at), 'updatedMs', to_ms(p_version.created_at), 'operation', p_version.operation,
    'pinned', p_version.pinned, 'mergedFrom', p_version.merged_from, 'message', p_version.message) end;
$$;

create or replace function content_parts(p_hash bytea) returns jsonb language sql as $$
  select jsonb_agg(jsonb_build_array(encoding, encode(bytes, 'base64')) order by part)
  from content where space_id = current_setting('lamina.space') and hash = p_hash;
$$;

create or replace function to_change_json(p_change change) returns jsonb language sql as $$
  select jsonb_build_object('tick', p_change.tick, 'kind', p_change.kind, 'id', p_change.id, 'version', p_change.version,
    'operation', p_change.operation, 'hash', encode(p_change.hash, 'hex'), 'parentBefore', p_change.parent_before,
    'parentAfter', p_change.parent_after, 'items', p_change.items, 'actorKind', p_change.actor_kind,
    'actorId', p_change.actor_id, 'origin', p_change.origin, 'atMs', to_ms(p_change.at));
$$;

-- What metadata can be found by: see context_term. lib/contexts/read.sql.ts makes the same terms to search for.
create or replace function metadata_terms(p_metadata jsonb) returns setof text language sql immutable as $$
  with recursive member (path, value) as (
    select key, value from jsonb_each(p_metadata)
    union all
    select m.path || '.' || e.key, e.value
    from member m cross join lateral jsonb_each(case jsonb_typeof(m.value) when 'object' then m.value else '{}' end) e
  ), scalar (path, text) as (
    select m.path, e.value #>> '{}'
    from member m cross join lateral jsonb_array_elements(
      case jsonb_typeof(m.value) when 'array' then m.value when 'object' then '[]' else jsonb_build_array(m.value) end) e
    where jsonb_typeof(e.value) in ('string', 'number', 'boolean')
  )
  select distinct case when octet_length(term) > 200 then encode(sha256(convert_to(term, 'UTF8')), 'hex') else term end
  from (select path || '=' || text as term from scalar) terms;
$$;

-- Whether a context can be read as a head now: an expired one is a deleted one from that instant.
create or replace function is_live(p_context context) returns boolean language sql as $$
  select coalesce(p_context.state = 'live' and (p_context.expires_at is null or p_context.expires_at > clock_timestamp()), false);
$$;
