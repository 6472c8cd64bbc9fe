-- Events of Droid's hooks: received, worked and ended. Locks of these come after all others (see 01-locks.sql): session,
-- then inbox.

create or replace function lock_session(p_id text, p_project text) returns factory_session language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_session factory_session;
begin
  insert into factory_session (space_id, id, project) values (v_space, p_id, p_project) on conflict do nothing;
  select * into v_session from factory_session where space_id = v_space and id = p_id for update;
  return v_session;
end $$;

-- Notes that the bytes from p_from to p_to of a transcript were taken, and answers up to where nothing is missing. What lies beyond
-- a gap is remembered until that is filled.
create or replace function take_bytes(p_session text, p_source text, p_from bigint, p_to bigint, p_unknown bigint) returns bigint language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_row factory_transcript;
  v_taken int8multirange;
begin
  insert into factory_transcript (space_id, session_id, source, position) values (v_space, p_session, p_source, 0) on conflict do nothing;
  select * into v_row from factory_transcript where space_id = v_space and session_id = p_session and source = p_source for update;
  -- From a byte before the first, so that what begins there is never empty.
  v_taken := v_row.ahead + int8multirange(int8range(-1, v_row.position), int8range(p_from, p_to));
  v_row.position := upper(range) from unnest(v_taken) range where lower(range) = -1;
  update factory_transcript set position = v_row.position, ahead = v_taken - int8multirange(int8range(-1, v_row.position)),
      unknown_lines = unknown_lines + p_unknown
    where space_id = v_space and session_id = p_session and source = p_source;
  return v_row.position;
end $$;

-- Commits an event. p_event: {id, session, project, event, actor, digest, payload, contexts, source, piece?: {from, to, unknown, messages}}.
-- Messages that are known are left out.
create or replace function receive_event(p_event jsonb, p_options jsonb, p_again_seconds double precision) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_sid text := p_event ->> 'session';
  v_source text := p_event ->> 'source';
  v_contexts text[] := array(select jsonb_array_elements_text(p_event -> 'contexts'));
  v_session factory_session;
  v_recorded jsonb;
  v_position bigint := 0;
  v_piece jsonb := p_event -> 'piece';
  v_payload jsonb := p_event -> 'payload';
  v_messages jsonb := '[]';
begin
  v_recorded := take_key(p_options, v_contexts);
  if v_recorded is not null and coalesce(v_recorded -> 'recorded', 'null') = 'null' then return v_recorded; end if;
  v_session := lock_session(v_sid, p_event ->> 'project');
  select coalesce((select position from factory_transcript where space_id = v_space and session_id = v_sid and source = v_source), 0) into v_position;
  if v_recorded is not null or (not p_options ? 'key' and v_session.last_digest = p_event ->> 'digest'
      and v_session.last_at > clock_timestamp() - make_interval(secs => p_again_seconds)) then
    return jsonb_build_object('clock', space_clock(), 'outcome', 'known', 'project', v_session.project, 'position', v_position,
      'id', coalesce(v_recorded -> 'recorded' ->> 'id', v_session.last_event));
  end if;

  if v_piece is not null then
    with message as (
      select m as message, m ->> 'id' as id, ordinality as at from jsonb_array_elements(v_piece -> 'messages') with ordinality as e (m, ordinality)
    ), first as (
      select distinct on (id) message, id, at from message order by id, at
    ), new as (
      insert into factory_message (space_id, session_id, id) select v_space, v_sid, id from first on conflict do nothing returning id
    )
    select coalesce(jsonb_agg(message order by at), '[]') into v_messages from first join new using (id);
    v_position := take_bytes(v_sid, v_source, (v_piece ->> 'from')::bigint, (v_piece ->> 'to')::bigint, (v_piece ->> 'unknown')::bigint);
  end if;

  v_payload := v_payload || jsonb_build_object('messages', v_messages);
  insert into inbox (space_id, id, session_id, event, actor_id, payload, size_bytes, contexts)
  values (v_space, p_event ->> 'id', v_sid, p_event ->> 'event', p_event ->> 'actor', v_payload, octet_length(v_payload::text), v_contexts);
  update factory_session set last_digest = p_event ->> 'digest', last_event = p_event ->> 'id', last_at = clock_timestamp(),
      updated_at = clock_timestamp()
    where space_id = v_space and id = v_sid;
  perform keep_answer(p_options, jsonb_build_object('id', p_event -> 'id'));
  return jsonb_build_object('clock', space_clock(), 'outcome', 'received', 'id', p_event -> 'id', 'project', v_session.project,
    'position', v_position);
end $$;

create or replace function to_event(p_row inbox) returns jsonb language sql as $$
  select jsonb_build_object('id', p_row.id, 'session', p_row.session_id, 'event', p_row.event, 'state', p_row.state,
    'attempts', p_row.attempts, 'reason', p_row.reason, 'contexts', to_jsonb(p_row.contexts),
    'receivedMs', to_ms(p_row.received_at), 'finishedMs', to_ms(p_row.finished_at),
    'nextMs', case p_row.state when 'pending' then to_ms(p_row.next_at) end);
$$;

-- Takes a session whose first pending event is due and that nobody works on, with its next events, in order, at most p_bytes of
-- them but for the first; {nextMs} where there is none, null where nothing is pending.
create or replace function claim_events(p_worker text, p_lease_ms integer, p_limit integer, p_bytes bigint) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_session factory_session;
  v_next_ms bigint;
begin
  select s.* into v_session from (
      select distinct on (session_id) session_id, next_at, position from inbox
      where space_id = v_space and state = 'pending' order by session_id, position
    ) first join factory_session s on s.space_id = v_space and s.id = first.session_id
    where first.next_at <= clock_timestamp() and (s.lease_until is null or s.lease_until <= clock_timestamp())
    order by first.next_at, first.position limit 1 for update of s skip locked;
  if v_session.id is null then
    select min(case when s.lease_until > first.next_at then to_ms(s.lease_until) else to_ms(first.next_at) end) - to_ms(clock_timestamp())
      into v_next_ms from (
        select distinct on (session_id) session_id, next_at from inbox
        where space_id = v_space and state = 'pending' order by session_id, position
      ) first join factory_session s on s.space_id = v_space and s.id = first.session_id;
    return jsonb_build_object('nextMs', case when v_next_ms is not null then greatest(v_next_ms, 0) end);
  end if;
  update factory_session set worker = p_worker, lease_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0)
    where space_id = v_space and id = v_session.id;
  return jsonb_build_object('session', v_session.id, 'project', v_session.project, 'part', v_session.part, 'facts', v_session.facts,
    'events', (
      select jsonb_agg(jsonb_build_object('id', id, 'event', event, 'actor', actor_id, 'payload', payload, 'attempts', attempts,
        'receivedMs', to_ms(received_at)) order by position)
      from (
        select *, sum(size_bytes) over (order by position) as bytes, row_number() over (order by position) as nth from (
          select * from inbox where space_id = v_space and session_id = v_session.id and state = 'pending' order by position limit p_limit
        ) next
      ) next where nth = 1 or bytes <= p_bytes));
end $$;

-- Breaks the transaction of a worker that no longer holds its session, and holds it for longer otherwise; 0 lets it go.
create or replace function hold_session(p_session text, p_worker text, p_lease_ms integer) returns void language plpgsql as $$
begin
  update factory_session set lease_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0),
      worker = case when p_lease_ms > 0 then worker end
    where space_id = current_setting('lamina.space') and id = p_session and worker = p_worker;
  if not found then raise exception 'another worker has taken over the session' using errcode = 'LM008'; end if;
end $$;

-- Ends an event in the transaction of its effects. p_end: {id, session, worker, leaseMs, part, facts, contexts, written: {id: hash}};
-- where the write beside it was refused, nothing of what it was to write is there, and the event is not ended.
create or replace function end_event(p_end jsonb) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  perform hold_session(p_end ->> 'session', p_end ->> 'worker', (p_end ->> 'leaseMs')::integer);
  if exists (select from jsonb_each_text(p_end -> 'written') w left join context c on c.space_id = v_space and c.id = w.key
      where c.state is distinct from 'live' or encode(c.hash, 'hex') is distinct from w.value) then return; end if;
  update inbox set state = 'done', finished_at = clock_timestamp(), reason = null, payload = payload - 'messages',
      contexts = array(select jsonb_array_elements_text(p_end -> 'contexts'))
    where space_id = v_space and id = p_end ->> 'id' and state = 'pending';
  -- Whoever erased what it was for has ended it.
  if not found then raise exception 'the event was ended' using errcode = 'LM008'; end if;
  update factory_session set part = (p_end ->> 'part')::integer, facts = p_end -> 'facts', updated_at = clock_timestamp()
    where space_id = v_space and id = p_end ->> 'session';
end $$;

-- Notes that an event failed: it is tried again later and later, and dead after p_attempts. Lets its session go.
create or replace function fail_event(
  p_id text, p_session text, p_worker text, p_reason text, p_attempts integer, p_retry_ms double precision
) returns text language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_state text;
begin
  perform hold_session(p_session, p_worker, 0);
  update inbox set attempts = attempts + 1, reason = p_reason,
      state = case when attempts + 1 >= p_attempts then 'dead' else 'pending' end,
      finished_at = case when attempts + 1 >= p_attempts then clock_timestamp() end,
      next_at = clock_timestamp() + make_interval(secs => least(p_retry_ms * power(2, least(attempts, 20)), 600000) / 1000.0)
    where space_id = v_space and id = p_id and state = 'pending' returning state into v_state;
  return v_state;
end $$;

-- Has a dead event worked again; null where there is no such event.
create or replace function replay_event(p_id text) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_row inbox;
  v_is_begun boolean;
begin
  update inbox set state = 'pending', attempts = 0, next_at = clock_timestamp(), finished_at = null
    where space_id = v_space and id = p_id and state = 'dead';
  v_is_begun := found;
  select * into v_row from inbox where space_id = v_space and id = p_id;
  if v_row.id is null then return null; end if;
  return jsonb_build_object('event', to_event(v_row), 'isBegun', v_is_begun);
end $$;

-- Nothing of an erased context stays in the inbox. What waits for a session that is erased waits no longer; the digests
-- and the ids of messages stay, so that what is sent again is known again.
create or replace function erase_from_inbox(p_ids text[]) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_sessions text[] := array(select distinct split_part(id, ':', 3) from unnest(p_ids) id where id like 'factory:session:%');
begin
  update factory_session set facts = '{}' where space_id = v_space and id = any (v_sessions);
  update inbox set payload = null, contexts = '{}', reason = 'erased', state = 'done', finished_at = coalesce(finished_at, clock_timestamp())
    where space_id = v_space and (session_id = any (v_sessions) or contexts && p_ids);
end $$;

-- Events that were done, or dead, for long enough.
create or replace function forget_events(p_done_days double precision, p_dead_days double precision, p_limit integer) returns integer language sql as $$
  with deleted as (
    delete from inbox where space_id = current_setting('lamina.space') and id in (
      select id from inbox where space_id = current_setting('lamina.space')
        and finished_at < clock_timestamp() - make_interval(secs => 86400 * case state when 'dead' then p_dead_days else p_done_days end)
      limit p_limit for update skip locked)
    returning 1
  ) select count(*)::integer from deleted;
$$;

-- What is known of sessions that nothing was heard of for long.
create or replace function forget_sessions(p_days double precision, p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_id text;
  v_count integer := 0;
begin
  for v_id in
    select id from factory_session s where space_id = v_space and updated_at < clock_timestamp() - make_interval(secs => p_days * 86400)
      and not exists (select from inbox i where i.space_id = v_space and i.session_id = s.id and i.state <> 'done')
    limit least(p_limit, 50) for update skip locked
  loop
    delete from factory_message where space_id = v_space and session_id = v_id;
    delete from factory_transcript where space_id = v_space and session_id = v_id;
    delete from factory_session where space_id = v_space and id = v_id;
    v_count := v_count + 1;
  end loop;
  return v_count;
end $$;
