-- Idempotency keys. take_key answers null when the key is now ours (or none was sent), and otherwise
-- {"recorded": the first answer} for the same request or {"recorded": null} for another. It waits for a transaction
-- that is using the key just now.
create or replace function take_key(p_options jsonb, p_ids text[]) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_key text := p_options ->> 'key';
  v_recorded idempotency;
begin
  if v_key is null then return null; end if;
  insert into idempotency (space_id, key, fingerprint, ids) values (v_space, v_key, p_options ->> 'fingerprint', p_ids)
  on conflict (space_id, key) do update
    set fingerprint = excluded.fingerprint, ids = excluded.ids, answer = null, created_at = clock_timestamp()
    where idempotency.created_at < clock_timestamp() - interval '24 hours';
  if found then return null; end if;
  select * into v_recorded from idempotency where space_id = v_space and key = v_key;
  return jsonb_build_object('clock', space_clock(), 'recorded', case when v_recorded.fingerprint = p_options ->> 'fingerprint' then v_recorded.answer end);
end $$;

create or replace function keep_answer(p_options jsonb, p_answer jsonb) returns void language sql as $$
  update idempotency set answer = p_answer where space_id = current_setting('lamina.space') and key = p_options ->> 'key';
$$;

-- A refusal is not remembered.
create or replace function release_key(p_options jsonb) returns void language sql as $$
  delete from idempotency where space_id = current_setting('lamina.space') and key = p_options ->> 'key';
$$;

-- Takes the key for work of more than one transaction, and answers as take_key does. Work under way is recorded as {"until"},
-- in milliseconds since 1970: from then on it counts as killed, and whoever asks may begin it again.
create or replace function begin_work(p_options jsonb, p_seconds double precision) returns jsonb language plpgsql as $$
declare
  v_recorded jsonb := take_key(p_options, array[]::text[]);
begin
  if v_recorded is not null then
    perform from idempotency where space_id = current_setting('lamina.space') and key = p_options ->> 'key'
      and fingerprint = p_options ->> 'fingerprint' and (answer ->> 'until')::bigint <= to_ms(clock_timestamp()) for update;
    if not found then return v_recorded; end if;
  end if;
  perform keep_answer(p_options, jsonb_build_object('until', to_ms(clock_timestamp() + make_interval(secs => p_seconds))));
  return null;
end $$;
