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
  if p_key ? 'isFirst' then
    perform lock_tree();
    if exists (select from api_key where space_id = v_space) then
      perform release_key(p_options);
      return jsonb_build_object('clock', (select clock from space where id = v_space), 'key', null);
    end if;
  end if;
  insert into api_key (space_id, id, name, secret_hash, scopes, created_at, expires_at)
    values (v_space, p_key ->> 'id', p_key ->> 'name', p_key ->> 'secretHash',
      array(select jsonb_array_elements_text(p_key -> 'scopes')), clock_timestamp(), (p_key ->> 'expiresAt')::timestamptz)
    returning * into v_row;
  insert into audit (space_id, id, actor_kind, actor_id, action, target)
    values (v_space, p_options ->> 'auditId', v_actor ->> 'kind', v_actor ->> 'id', 'key.create', v_row.id);
  v_answer := jsonb_build_object('key', to_key(v_row));
  perform keep_answer(p_options, v_answer);
  return v_answer || jsonb_build_object('clock', record_changes(array[key_change(v_row.id, 'create', v_actor)]));
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
    return jsonb_build_object('clock', (select clock from space where id = v_space), 'key', null);
  end if;
  insert into audit (space_id, id, actor_kind, actor_id, action, target)
    values (v_space, p_options ->> 'auditId', v_actor ->> 'kind', v_actor ->> 'id', 'key.revoke', p_id);
  v_answer := jsonb_build_object('key', to_key(v_row));
  perform keep_answer(p_options, v_answer);
  return v_answer || jsonb_build_object('clock', record_changes(array[key_change(p_id, 'revoke', v_actor)]));
end $$;
