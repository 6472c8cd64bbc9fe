-- The one write path. Carries out operations on contexts in the order sent, each checked against the locked head, and
-- answers {clock, changes, results}; the statements inside see what earlier lock holders committed, so nothing decided
-- here can be overtaken. See docs/decisions/0002-the-write-path-is-a-function.md.
--
-- p_operations: [{op: put | restore | delete | expire, id, ifVersion?, ifLive?, ifAbsent?, …}]
--   put:     content? {hash, type, size, encoding, first, parts}, upload? {id, hash, parts}, kind?, parentId?, metadata?,
--            expiresAt?, ttlSeconds?, operation, mergedFrom?, message?, withContent?; what is absent keeps the head's.
--            An upload is the content where none is beside it, and is used up either way
--   restore: version; delete: children (fail | delete | orphan); expire: nothing more
-- p_parts: base64 of encoded content parts; an operation names its first (from 1) and how many
-- p_options: {actor: {kind, id}, origin, atomic, takesTree, key?, fingerprint?, extra?, retained, retainedDays?, depth, cascade}

-- A put or a restore on the locked head. On success `next` is the new head and `changes` has its change.
create or replace function put_context(
  p_op jsonb, p_head context, p_parts text[], p_options jsonb, out outcome text, out next context, out changes change[]
) language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_id text := p_op ->> 'id';
  v_operation text := coalesce(p_op ->> 'operation', p_op ->> 'op');
  v_is_live boolean := is_live(p_head);
  v_next context := next_head(p_head, v_id, p_options -> 'actor');
  v_source context_version;
  v_locked record;
  v_upload upload;
begin
  changes := '{}';
  v_next.state := 'live';
  if not v_is_live then
    v_next.kind := 'note';
    v_next.parent_id := null;
    v_next.metadata := '{}';
    v_next.expires_at := null;
    v_next.hash := null;
  end if;

  if p_op ->> 'op' = 'restore' then
    select * into v_source from context_version
      where space_id = v_space and id = v_id and version = (p_op ->> 'version')::integer;
    if v_source.version is null then
      outcome := case when p_head.version is null or p_head.state = 'erased' then 'not_found' else 'version_not_found' end;
    elsif v_source.hash is null then
      outcome := 'tombstone_source';
    end if;
    v_next.hash := v_source.hash;
    v_next.content_type := v_source.content_type;
    v_next.size_bytes := v_source.size_bytes;
    v_next.kind := coalesce(v_source.kind, v_next.kind);
    v_next.metadata := coalesce(v_source.metadata, v_next.metadata);
  else
    if p_op ? 'content' then
      v_next.hash := decode(p_op -> 'content' ->> 'hash', 'hex');
      v_next.content_type := p_op -> 'content' ->> 'type';
      v_next.size_bytes := (p_op -> 'content' ->> 'size')::integer;
    end if;
    if p_op ? 'upload' then
      select * into v_locked from lock_upload(p_op -> 'upload', v_id, p_head);
      outcome := v_locked.outcome;
      v_upload := v_locked.taken;
      v_upload.hash := decode(p_op -> 'upload' ->> 'hash', 'hex');
      if not p_op ? 'content' then
        v_next.hash := v_upload.hash;
        v_next.content_type := v_upload.content_type;
        v_next.size_bytes := v_upload.size_bytes;
      end if;
    end if;
    if p_op ? 'kind' then v_next.kind := p_op ->> 'kind'; end if;
    if p_op ? 'parentId' then v_next.parent_id := p_op ->> 'parentId'; end if;
    if p_op ? 'metadata' then v_next.metadata := coalesce(nullif(p_op -> 'metadata', 'null'), '{}'); end if;
    if p_op ? 'expiresAt' then v_next.expires_at := (p_op ->> 'expiresAt')::timestamptz; end if;
    if p_op ? 'ttlSeconds' then
      v_next.expires_at := v_next.updated_at + make_interval(secs => (p_op ->> 'ttlSeconds')::double precision);
    end if;
  end if;

  if outcome is not null then null;
  elsif v_is_live and p_op ? 'ifAbsent' then outcome := 'exists';
  elsif v_is_live and p_head.hash = v_next.hash and p_head.content_type = v_next.content_type
    and p_head.kind = v_next.kind and p_head.parent_id is not distinct from v_next.parent_id
    and p_head.metadata = v_next.metadata and p_head.expires_at is not distinct from v_next.expires_at then outcome := 'unchanged';
  elsif is_stale(p_op, p_head) then outcome := 'stale';
  elsif v_next.hash is null then outcome := 'content_required';
  elsif v_next.parent_id is not null and v_next.parent_id is distinct from (case when v_is_live then p_head.parent_id end) then
    outcome := refuse_parent(v_id, v_next.parent_id, (p_options ->> 'depth')::integer);
  end if;
  if v_upload.used_by is not null and coalesce(outcome, '') not in ('unchanged', 'upload_unknown') then outcome := 'upload_used'; end if;
  if outcome = 'unchanged' and v_upload.id is not null and v_upload.used_by is null then perform use_upload(v_upload, p_head); end if;
  if outcome is not null then return; end if;

  if p_op ? 'content' then perform keep_content(v_next.hash, p_op -> 'content', p_parts);
  elsif v_upload.id is not null and v_upload.used_by is null then
    perform keep_content(v_next.hash, jsonb_build_object('upload', v_upload.id, 'parts', jsonb_array_length(p_op -> 'upload' -> 'parts')), null);
  end if;
  if v_upload.id is not null and v_upload.used_by is null then perform use_upload(v_upload, v_next); end if;
  perform store_version(p_head, v_next, v_operation, p_options, p_op -> 'mergedFrom', p_op ->> 'message');
  changes := array[to_change(p_head, v_next, v_operation, p_options ->> 'origin')];
  outcome := case when v_is_live then 'updated' else 'created' end;
  next := v_next;
end $$;

-- A delete or an expiry of the locked head, with what hangs below it.
create or replace function delete_context(
  p_op jsonb, p_head context, p_options jsonb, out outcome text, out next context, out changes change[], out children text[]
) language plpgsql as $$
declare
  v_mode text := p_op ->> 'children';
  v_cascade integer := (p_options ->> 'cascade')::integer;
  v_below text[];
  v_id text;
  v_child context;
  v_next context;
begin
  changes := '{}';
  if p_head.version is null or p_head.state = 'erased' then outcome := 'not_found'; return; end if;
  if p_op ->> 'op' = 'expire' then
    if p_head.state <> 'live' or p_head.expires_at is null or p_head.expires_at > clock_timestamp() then
      outcome := 'unchanged';
      return;
    end if;
  else
    if not is_live(p_head) then outcome := 'gone'; return; end if;
    if is_stale(p_op, p_head) then outcome := 'stale'; return; end if;
    v_below := contexts_below(p_head.id, v_mode, case v_mode when 'fail' then 9 else v_cascade end);
    if v_mode = 'fail' and v_below <> '{}' then
      outcome := 'has_children';
      children := v_below;
      return;
    end if;
    if coalesce(array_length(v_below, 1), 0) >= v_cascade then outcome := 'cascade_too_large'; return; end if;
    foreach v_id in array v_below loop
      v_child := lock_head(v_id);
      -- An expired one may have come back on its own meanwhile, without a parent.
      continue when not is_live(v_child) or v_child.parent_id is null;
      if v_mode = 'delete' then
        v_next := tombstone_of(v_child, p_options -> 'actor');
      else
        v_next := next_head(v_child, v_child.id, p_options -> 'actor');
        v_next.parent_id := null;
      end if;
      perform store_version(v_child, v_next, case v_mode when 'delete' then 'delete' else 'put' end, p_options);
      changes := changes || to_change(v_child, v_next, case v_mode when 'delete' then 'delete' else 'put' end, p_options ->> 'origin');
    end loop;
  end if;

  next := tombstone_of(p_head, p_options -> 'actor');
  perform store_version(p_head, next, p_op ->> 'op', p_options);
  changes := changes || to_change(p_head, next, p_op ->> 'op', p_options ->> 'origin');
  outcome := 'deleted';
end $$;

create or replace function write_contexts(p_operations jsonb, p_parts text[], p_options jsonb) returns jsonb
language plpgsql as $$
declare
  v_op jsonb;
  v_index integer := -1;
  v_head context;
  v_done record;
  v_facts jsonb;
  v_recorded jsonb;
  v_ticked jsonb;
  v_changes change[] := '{}';
  v_contents_bytes bigint := 0;
  v_results jsonb[] := '{}';
  v_change change;
  v_is_large boolean := jsonb_array_length(p_operations) > 100;
begin
  if (p_options ->> 'takesTree')::boolean then perform lock_tree(); end if;

  v_recorded := take_key(p_options, array(select o ->> 'id' from jsonb_array_elements(p_operations) o));
  if v_recorded is not null then return v_recorded; end if;

  -- Every context before the first content: see 01-locks.sql.
  if v_is_large then perform lock_births(); end if;
  if (p_options ->> 'takesTree')::boolean then
    perform case when v_is_large then lock_known(id) else lock_head(id) end from (
      select (o ->> 'id') collate "C" as id from jsonb_array_elements(p_operations) o
      union
      select below from jsonb_array_elements(p_operations) o
        cross join unnest(contexts_below(o ->> 'id', o ->> 'children', (p_options ->> 'cascade')::integer)) below
        where o ->> 'children' in ('delete', 'orphan')
      order by 1
    ) wanted;
  end if;

  for v_op in select o from jsonb_array_elements(p_operations) o loop
    v_index := v_index + 1;
    v_head := case when v_is_large then lock_known(v_op ->> 'id') else lock_head(v_op ->> 'id') end;
    if v_op ->> 'op' in ('put', 'restore') then
      select *, null::text[] as children into v_done from put_context(v_op, v_head, p_parts, p_options);
    else
      select * into v_done from delete_context(v_op, v_head, p_options);
    end if;
    -- One by one, which PostgreSQL does in place: to join two arrays copies both.
    foreach v_change in array v_done.changes loop v_changes := array_append(v_changes, v_change); end loop;
    if v_done.outcome in ('created', 'updated', 'deleted') then v_head := v_done.next; end if;
    v_facts := jsonb_strip_nulls(jsonb_build_object('children', to_jsonb(v_done.children)))
      || jsonb_build_object('index', v_index, 'id', v_op -> 'id', 'outcome', v_done.outcome, 'head', to_head(v_head));
    if v_done.outcome in ('upload_unknown', 'upload_used') then
      v_facts := v_facts || jsonb_build_object('upload', v_op -> 'upload' -> 'id', 'usedBy', (
        select jsonb_build_object('id', used_by, 'version', used_version) from upload
          where v_done.outcome = 'upload_used' and space_id = current_setting('lamina.space') and id = v_op -> 'upload' ->> 'id'));
    end if;
    if v_done.outcome in ('created', 'updated', 'unchanged') and v_op ? 'withContent'
      and v_contents_bytes + v_head.size_bytes <= 4194304 then
      v_contents_bytes := v_contents_bytes + v_head.size_bytes;
      v_facts := v_facts || jsonb_build_object('content', content_parts(v_head.hash));
    end if;
    if (p_options ->> 'atomic')::boolean and v_done.outcome not in ('created', 'updated', 'unchanged', 'deleted') then
      if v_index > 0 then raise exception 'refused' using errcode = 'LM001', detail = v_facts::text; end if;
      perform release_key(p_options);
      return jsonb_build_object('clock', space_clock(), 'refused', v_facts);
    end if;
    v_results := array_append(v_results, v_facts);
  end loop;

  v_ticked := record_changes(v_changes);
  if p_options ? 'key' then
    perform keep_answer(p_options, jsonb_build_object('extra', p_options -> 'extra', 'results', (
      select jsonb_agg(case when r ->> 'outcome' in ('created', 'updated', 'unchanged', 'deleted')
        then jsonb_build_object('index', r -> 'index', 'id', r -> 'id', 'outcome', r -> 'outcome', 'version', r -> 'head' -> 'version')
        else r - 'content' end) from unnest(v_results) r)));
  end if;
  return v_ticked || jsonb_build_object('results', to_jsonb(v_results));
end $$;
