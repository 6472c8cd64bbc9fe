-- A key's change is a change like any other: one tick, and whoever remembered the key learns of it from the feed.
create or replace function key_change(p_id text, p_operation text, p_actor jsonb) returns change language sql as $$
  select row(current_setting('lamina.space'), 0, 'key', null, null, p_operation, null, null, null,
    jsonb_build_array('k:' || p_id), p_actor ->> 'kind', p_actor ->> 'id', p_actor ->> 'kind', clock_timestamp())::change;
$$;

create or replace function to_key(p_key api_key) returns jsonb language sql as $$
  select jsonb_build_object('id', p_key.id, 'name', p_key.name, 'scopes', to_jsonb(p_key.scopes), 'createdMs', to_ms(p_key.created_at),
    'expiresMs', to_ms(p_key.expires_at), 'revokedMs', to_ms(p_key.revoked_at));
$$;

create or replace function create_key(p_key jsonb, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_actor jsonb := p_options -> 'actor';
  v_row api_key;
  v_recorded jsonb;
  v_answer jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  insert into api_key (space_id, id, name, secret_hash, scopes, created_at, expires_at)
    values (v_space, p_key ->> 'id', p_key ->> 'name', p_key ->> 'secretHash',
      array(select jsonb_array_elements_text(p_key -> 'scopes')), clock_timestamp(), (p_key ->> 'expiresAt')::timestamptz)
    returning * into v_row;
  insert into audit (space_id, id, actor_kind, actor_id, action, target)
    values (v_space, p_options ->> 'auditId', v_actor ->> 'kind', v_actor ->> 'id', 'key.create', v_row.id);
  v_answer := jsonb_build_object('key', to_key(v_row));
  perform keep_answer(p_options, v_answer);
  return v_answer || record_changes(array[key_change(v_row.id, 'create', v_actor)]);
end $$;

create or replace function revoke_key(p_id text, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_actor jsonb := p_options -> 'actor';
  v_row api_key;
  v_recorded jsonb;
  v_answer jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  update api_key set revoked_at = clock_timestamp() where space_id = v_space and id = p_id and revoked_at is null returning * into v_row;
  if v_row.id is null then
    perform release_key(p_options);
    return jsonb_build_object('clock', space_clock(), 'key', null);
  end if;
  insert into audit (space_id, id, actor_kind, actor_id, action, target)
    values (v_space, p_options ->> 'auditId', v_actor ->> 'kind', v_actor ->> 'id', 'key.revoke', p_id);
  v_answer := jsonb_build_object('key', to_key(v_row));
  perform keep_answer(p_options, v_answer);
  return v_answer || record_changes(array[key_change(p_id, 'revoke', v_actor)]);
end $$;

-- Spaces are made and dropped by the owner's door, which sees spaces and keys alone; everything inside them belongs to
-- lamina_app, whose role these functions take for that part. The idempotency key is the caller's, in the caller's space.
create or replace function enter_space(p_space text) returns void language sql as $$
  select set_config('role', 'lamina_app', true), set_config('lamina.space', p_space, true);
$$;

create or replace function leave_space(p_owner text) returns void language sql as $$
  select set_config('role', p_owner, true);
$$;

create or replace function audit_space(p_action text, p_name text, p_options jsonb) returns void language sql as $$
  insert into audit (space_id, id, actor_kind, actor_id, action, target) values (current_setting('lamina.space'),
    p_options ->> 'auditId', p_options -> 'actor' ->> 'kind', p_options -> 'actor' ->> 'id', p_action, p_name);
$$;

-- Makes a space with its first key; {key: null} where there is one of that name.
create or replace function create_space(p_home text, p_name text, p_key jsonb, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_owner text := current_user;
  v_recorded jsonb;
  v_answer jsonb;
begin
  perform enter_space(p_home);
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  perform leave_space(v_owner);
  insert into space (id) values (p_name) on conflict do nothing;
  if not found then
    perform enter_space(p_home);
    perform release_key(p_options);
    return jsonb_build_object('key', null);
  end if;
  perform enter_space(p_name);
  v_answer := create_key(p_key, p_options - 'key') - 'clock' - 'changes';
  perform enter_space(p_home);
  perform audit_space('space.create', p_name, p_options);
  perform keep_answer(p_options, v_answer);
  return v_answer;
end $$;

-- Begins the removal of a space: nobody can use its keys or find it from now on. Answers {createdMs}, null where there is
-- none, or {recorded} where the request was carried out before: then a later space of the name is none of its business.
create or replace function seal_space(p_home text, p_name text, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_owner text := current_user;
  v_recorded idempotency;
  v_created timestamptz;
begin
  perform enter_space(p_home);
  select * into v_recorded from idempotency where space_id = current_setting('lamina.space') and key = p_options ->> 'key'
    and created_at >= clock_timestamp() - interval '24 hours';
  if v_recorded.key is not null then
    return jsonb_build_object('recorded', case when v_recorded.fingerprint = p_options ->> 'fingerprint' then v_recorded.answer end);
  end if;
  perform leave_space(v_owner);
  delete from api_key where space_id = p_name;
  update space set closed_at = coalesce(closed_at, clock_timestamp()) where id = p_name returning created_at into v_created;
  return jsonb_build_object('createdMs', to_ms(v_created));
end $$;

-- Empties a closed space bit by bit, so that dropping it stays one short transaction; answers how many rows went.
create or replace function empty_space(p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_table text;
  v_count integer;
begin
  -- A closed space cannot be seen from inside: one that can is a later one of the name.
  if exists (select from space where id = v_space) then return 0; end if;
  foreach v_table in array array[
    'cache_entry', 'cache_report', 'memory_node', 'context_term', 'change', 'content', 'garbage', 'context_version', 'context', 'idempotency', 'upload_part', 'upload',
    'follower', 'peer_base', 'conflict', 'peer_run', 'peer', 'inbox', 'factory_message', 'factory_transcript', 'factory_session', 'factory_erased', 'audit', 'vector_entry', 'chunk_vector', 'chunk', 'search_document', 'chunk_term', 'chunk_term_pending', 'search_state'
  ] loop
    -- Vectors are kept only where PostgreSQL can.
    continue when to_regclass(v_table) is null;
    execute format('delete from %I where ctid = any (array(select ctid from %I where space_id = $1 limit $2))', v_table, v_table)
      using v_space, p_limit;
    get diagnostics v_count = row_count;
    if v_count > 0 then return v_count; end if;
  end loop;
  return 0;
end $$;

-- Drops a space that was closed and emptied. Its row is locked first, so that what came between is waited for, and taken.
create or replace function drop_space(p_home text, p_name text, p_created_ms bigint, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_owner text := current_user;
  v_recorded jsonb;
begin
  perform enter_space(p_home);
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  perform leave_space(v_owner);
  perform from space where id = p_name and closed_at is not null and to_ms(created_at) = p_created_ms for update;
  if not found then
    perform enter_space(p_home);
    perform release_key(p_options);
    return jsonb_build_object('dropped', false);
  end if;
  perform enter_space(p_name);
  while empty_space(10000) > 0 loop end loop;
  perform leave_space(v_owner);
  delete from api_key where space_id = p_name;
  delete from space where id = p_name;
  perform enter_space(p_home);
  perform audit_space('space.delete', p_name, p_options);
  perform keep_answer(p_options, '{"dropped": true}');
  return '{"dropped": true}';
end $$;
