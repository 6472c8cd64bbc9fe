-- The one write path. Carries out operations on contexts in the order sent, each checked against the locked head, and
-- answers {clock, changes, results}; the statements inside see what earlier lock holders committed, so nothing decided
-- here can be overtaken. See docs/decisions/0002-the-write-path-is-a-function.md.
--
-- p_operations: [{op: put | restore | delete | expire, id, ifVersion?, ifLive?, ifAbsent?, …}]
--   put:     content? {hash, type, size, encoding, first, parts}, kind?, parentId?, metadata?, expiresAt?, ttlSeconds?,
--            operation, mergedFrom?, message?, withContent?; what is absent keeps the head's
--   restore: version; delete: children (fail | delete | orphan); expire: nothing more
-- p_parts: base64 of encoded content parts; an operation names its first (from 1) and how many
-- p_options: {actor: {kind, id}, origin, atomic, takesTree, key?, fingerprint?, extra?, retained, retainedDays?, depth, cascade}
create or replace function write_contexts(p_operations jsonb, p_parts text[], p_options jsonb) returns jsonb
language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_actor jsonb := p_options -> 'actor';
  v_origin text := p_options ->> 'origin';
  v_op jsonb;
  v_index integer := -1;
  v_id text;
  v_head context;
  v_next context;
  v_source context_version;
  v_child context;
  v_hash bytea;
  v_is_live boolean;
  v_is_same boolean;
  v_outcome text;
  v_operation text;
  v_facts jsonb;
  v_recorded jsonb;
  v_clock bigint;
  v_changes change[] := '{}';
  v_before integer;
  v_results jsonb := '[]';
begin
  if (p_options ->> 'takesTree')::boolean then perform lock_tree(); end if;

  v_recorded := take_key(p_options, array(select o ->> 'id' from jsonb_array_elements(p_operations) o));
  if v_recorded is not null then return v_recorded; end if;

  for v_op in select o from jsonb_array_elements(p_operations) o loop
    v_index := v_index + 1;
    v_id := v_op ->> 'id';
    v_outcome := null;
    v_facts := '{}';
    v_before := coalesce(array_length(v_changes, 1), 0);
    perform lock_context(v_id);
    v_head := null;
    select * into v_head from context where space_id = v_space and id = v_id for update;
    v_is_live := is_live(v_head);
    v_operation := coalesce(v_op ->> 'operation', v_op ->> 'op');

    if v_op ->> 'op' in ('put', 'restore') then
      v_next := next_head(v_head, v_id, v_actor);
      v_next.state := 'live';
      if not v_is_live then
        v_next.kind := 'note';
        v_next.parent_id := null;
        v_next.metadata := '{}';
        v_next.expires_at := null;
        v_next.hash := null;
      end if;

      if v_op ->> 'op' = 'restore' then
        v_source := null;
        select * into v_source from context_version
          where space_id = v_space and id = v_id and version = (v_op ->> 'version')::integer;
        if v_source.version is null then
          v_outcome := case when v_head.version is null or v_head.state = 'erased' then 'not_found' else 'version_not_found' end;
        elsif v_source.hash is null then
          v_outcome := 'tombstone_source';
        end if;
        v_next.hash := v_source.hash;
        v_next.content_type := v_source.content_type;
        v_next.size_bytes := v_source.size_bytes;
        v_next.kind := coalesce(v_source.kind, v_next.kind);
        v_next.metadata := coalesce(v_source.metadata, v_next.metadata);
      else
        if v_op ? 'content' then
          v_next.hash := decode(v_op -> 'content' ->> 'hash', 'hex');
          v_next.content_type := v_op -> 'content' ->> 'type';
          v_next.size_bytes := (v_op -> 'content' ->> 'size')::integer;
        end if;
        if v_op ? 'kind' then v_next.kind := v_op ->> 'kind'; end if;
        if v_op ? 'parentId' then v_next.parent_id := v_op ->> 'parentId'; end if;
        if v_op ? 'metadata' then v_next.metadata := coalesce(nullif(v_op -> 'metadata', 'null'), '{}'); end if;
        if v_op ? 'expiresAt' then v_next.expires_at := (v_op ->> 'expiresAt')::timestamptz; end if;
        if v_op ? 'ttlSeconds' then
          v_next.expires_at := v_next.updated_at + make_interval(secs => (v_op ->> 'ttlSeconds')::double precision);
        end if;
      end if;

      v_is_same := v_is_live and v_head.hash = v_next.hash and v_head.content_type = v_next.content_type
        and v_head.kind = v_next.kind and v_head.parent_id is not distinct from v_next.parent_id
        and v_head.metadata = v_next.metadata and v_head.expires_at is not distinct from v_next.expires_at;

      if v_outcome is not null then null;
      elsif v_is_live and v_op ? 'ifAbsent' then v_outcome := 'exists';
      elsif v_is_same then v_outcome := 'unchanged';
      elsif not v_is_live and v_op ? 'ifLive' then v_outcome := 'stale';
      elsif v_op ? 'ifVersion' and (v_op ->> 'ifVersion')::integer <> (case when v_head.version is null or v_head.state = 'erased' then 0 else v_head.version end) then
        v_outcome := 'stale';
      elsif v_next.hash is null then v_outcome := 'content_required';
      elsif v_next.parent_id is not null and v_next.parent_id is distinct from (case when v_is_live then v_head.parent_id end) then
        v_outcome := refuse_parent(v_id, v_next.parent_id, (p_options ->> 'depth')::integer);
      end if;

      if v_outcome is null then
        v_hash := v_next.hash;
        perform pg_advisory_xact_lock_shared(content_lock(v_hash));
        if v_op ? 'content' then
          insert into content (space_id, hash, part, encoding, bytes)
          select v_space, v_hash, p, v_op -> 'content' ->> 'encoding',
            decode(p_parts[(v_op -> 'content' ->> 'first')::integer + p], 'base64')
          from generate_series(0, (v_op -> 'content' ->> 'parts')::integer - 1) p
          on conflict do nothing;
        end if;
        perform store_version(v_next, v_operation, v_op -> 'mergedFrom', v_op ->> 'message',
          (p_options ->> 'retained')::integer, (p_options ->> 'retainedDays')::double precision);
        v_changes := v_changes || to_change(v_head, v_next, v_operation, v_origin);
        v_outcome := case when v_is_live then 'updated' else 'created' end;
      end if;

    else
      if v_head.version is null or v_head.state = 'erased' then v_outcome := 'not_found';
      elsif v_op ->> 'op' = 'expire' then
        if v_head.state <> 'live' or v_head.expires_at is null or v_head.expires_at > clock_timestamp() then
          v_outcome := 'unchanged';
        end if;
      elsif not v_is_live then v_outcome := 'gone';
      elsif v_op ? 'ifVersion' and (v_op ->> 'ifVersion')::integer <> v_head.version then v_outcome := 'stale';
      elsif exists (select from context c where c.space_id = v_space and c.parent_id = v_id and is_live(c)) then
        if v_op ->> 'children' = 'fail' then
          v_outcome := 'has_children';
          v_facts := jsonb_build_object('children', (
            select jsonb_agg(id) from (select id from context c where c.space_id = v_space and c.parent_id = v_id and is_live(c) order by id limit 10) few));
        else
          for v_child in
            with recursive under as (
              select c as node, 1 as level from context c where c.space_id = v_space and c.parent_id = v_id and is_live(c)
              union all
              select c, under.level + 1 from under join context c on c.space_id = v_space and c.parent_id = (under.node).id and is_live(c)
              where v_op ->> 'children' = 'delete'
            )
            select (node).* from under order by level desc, (node).id limit (p_options ->> 'cascade')::integer
          loop
            perform lock_context(v_child.id);
            select * into v_child from context where space_id = v_space and id = v_child.id for update;
            continue when not is_live(v_child);
            if v_op ->> 'children' = 'delete' then
              v_next := tombstone_of(v_child, v_actor);
            else
              v_next := next_head(v_child, v_child.id, v_actor);
              v_next.parent_id := null;
            end if;
            perform store_version(v_next, case v_op ->> 'children' when 'delete' then 'delete' else 'put' end, null, null,
              (p_options ->> 'retained')::integer, (p_options ->> 'retainedDays')::double precision);
            v_changes := v_changes || to_change(v_child, v_next, case v_op ->> 'children' when 'delete' then 'delete' else 'put' end, v_origin);
          end loop;
          if coalesce(array_length(v_changes, 1), 0) - v_before >= (p_options ->> 'cascade')::integer then
            raise exception 'refused' using errcode = 'LM001',
              detail = jsonb_build_object('index', v_index, 'id', v_id, 'outcome', 'cascade_too_large')::text;
          end if;
        end if;
      end if;

      if v_outcome is null then
        v_next := tombstone_of(v_head, v_actor);
        perform store_version(v_next, v_operation, null, null,
          (p_options ->> 'retained')::integer, (p_options ->> 'retainedDays')::double precision);
        v_changes := v_changes || to_change(v_head, v_next, v_operation, v_origin);
        v_outcome := 'deleted';
      end if;
    end if;

    if v_outcome in ('created', 'updated', 'deleted') then v_head := v_next; end if;
    v_facts := v_facts || jsonb_build_object('index', v_index, 'id', v_id, 'outcome', v_outcome, 'head', to_head(v_head));
    if v_outcome in ('created', 'updated', 'unchanged') and v_op ? 'withContent' and v_head.size_bytes <= 4194304 then
      v_facts := v_facts || jsonb_build_object('content', content_parts(v_head.hash));
    end if;
    if (p_options ->> 'atomic')::boolean and v_outcome not in ('created', 'updated', 'unchanged', 'deleted') then
      if v_index > 0 then raise exception 'refused' using errcode = 'LM001', detail = v_facts::text; end if;
      perform release_key(p_options);
      return jsonb_build_object('clock', (select clock from space where id = v_space), 'refused', v_facts);
    end if;
    v_results := v_results || v_facts;
  end loop;

  v_clock := record_changes(v_changes);
  if p_options ? 'key' then
    perform keep_answer(p_options, jsonb_build_object('extra', p_options -> 'extra', 'results', (
      select jsonb_agg(case when r ->> 'outcome' in ('created', 'updated', 'unchanged', 'deleted')
        then jsonb_build_object('index', r -> 'index', 'id', r -> 'id', 'outcome', r -> 'outcome', 'version', r -> 'head' -> 'version')
        else r - 'content' end) from jsonb_array_elements(v_results) r)));
  end if;
  return jsonb_build_object('clock', v_clock, 'results', v_results, 'changes', (
    select coalesce(jsonb_agg(to_change_json(v_changes[i], v_clock - array_length(v_changes, 1) + i) order by i), '[]')
    from generate_subscripts(v_changes, 1) i));
end $$;
