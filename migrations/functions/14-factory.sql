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

-- Notes when the session's first pending event is due. Whoever calls it holds the session.
create or replace function note_due(p_session text) returns void language sql as $$
  update factory_session s set next_at = (
      select i.next_at from inbox i where i.space_id = s.space_id and i.session_id = s.id and i.state = 'pending' order by i.position limit 1)
    where s.space_id = current_setting('lamina.space') and s.id = p_session;
$$;

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
-- Messages that are known are left out. A transcript that was begun anew is taken from its new end on.
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
  v_next_at timestamptz;
  v_erased_at timestamptz;
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
    if (v_piece ->> 'from')::bigint = 0 and (v_piece ->> 'to')::bigint < v_position and v_messages <> '[]' then
      update factory_transcript set position = 0, ahead = '{}' where space_id = v_space and session_id = v_sid and source = v_source;
    end if;
    v_position := take_bytes(v_sid, v_source, (v_piece ->> 'from')::bigint, (v_piece ->> 'to')::bigint, (v_piece ->> 'unknown')::bigint);
    -- The ids of what was said before it was erased were forgotten with an earlier session of the name.
    select erased_at into v_erased_at from factory_erased where space_id = v_space and session_id = v_sid and erased_at < v_session.created_at;
    if v_erased_at is not null then
      select coalesce(jsonb_agg(m), '[]') into v_messages from jsonb_array_elements(v_messages) m where (m ->> 'at')::timestamptz > v_erased_at;
    end if;
  end if;

  v_payload := v_payload || jsonb_build_object('messages', v_messages);
  insert into inbox (space_id, id, session_id, event, actor_id, payload, size_bytes, contexts)
  values (v_space, p_event ->> 'id', v_sid, p_event ->> 'event', p_event ->> 'actor', v_payload, octet_length(v_payload::text), v_contexts)
  returning next_at into v_next_at;
  update factory_session set last_digest = p_event ->> 'digest', last_event = p_event ->> 'id', last_at = clock_timestamp(),
      updated_at = clock_timestamp(), next_at = coalesce(next_at, v_next_at)
    where space_id = v_space and id = v_sid;
  perform keep_answer(p_options, jsonb_build_object('id', p_event -> 'id'));
  return jsonb_build_object('clock', space_clock(), 'outcome', 'received', 'id', p_event -> 'id', 'project', v_session.project,
    'position', v_position);
end $$;

-- Of what it is for and was written to, the first 200.
create or replace function to_event(p_row inbox) returns jsonb language sql as $$
  select jsonb_build_object('id', p_row.id, 'session', p_row.session_id, 'event', p_row.event, 'state', p_row.state,
    'attempts', p_row.attempts, 'reason', p_row.reason, 'contexts', to_jsonb(p_row.contexts[1:200]),
    'receivedMs', to_ms(p_row.received_at), 'finishedMs', to_ms(p_row.finished_at),
    'nextMs', case p_row.state when 'pending' then to_ms(p_row.next_at) end);
$$;

-- Takes a session whose first pending event is due and that nobody works on, with its next events, in order, at most p_bytes of
-- them but for the first: {claim, nextMs, dead}. A worker that has let its lease pass ended in the midst of the first event, which
-- counts as an attempt; after p_attempts of them it is dead. As json, since to build jsonb of what is there already takes its size
-- again and again.
create or replace function claim_events(p_worker text, p_lease_ms integer, p_limit integer, p_bytes bigint, p_attempts integer) returns json
language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_session factory_session;
  v_first inbox;
  v_dead jsonb := '[]';
  v_next_ms bigint;
begin
  loop
    select s.* into v_session from factory_session s
      where s.space_id = v_space and s.next_at <= clock_timestamp() and (s.lease_until is null or s.lease_until <= clock_timestamp())
      order by s.next_at limit 1 for update skip locked;
    exit when v_session.id is null;
    select * into v_first from inbox
      where space_id = v_space and session_id = v_session.id and state = 'pending' order by position limit 1 for update;
    if v_first.id is null then
      perform note_due(v_session.id);
      continue;
    end if;
    update factory_session set worker = p_worker, lease_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0)
      where space_id = v_space and id = v_session.id;
    exit when v_session.worker is null;
    update inbox set attempts = attempts + 1, reason = 'unavailable: Its worker ended in the midst of it.',
        state = case when attempts + 1 >= p_attempts then 'dead' else 'pending' end,
        finished_at = case when attempts + 1 >= p_attempts then clock_timestamp() end
      where space_id = v_space and id = v_first.id returning * into v_first;
    exit when v_first.state is distinct from 'dead';
    v_dead := v_dead || jsonb_build_object('id', v_first.id, 'event', v_first.event);
    update factory_session set worker = null, lease_until = null where space_id = v_space and id = v_session.id;
    perform note_due(v_session.id);
  end loop;
  if v_session.id is null then
    select min(to_ms(greatest(next_at, lease_until))) - to_ms(clock_timestamp()) into v_next_ms
      from factory_session where space_id = v_space and next_at is not null;
    return json_build_object('claim', null, 'dead', v_dead, 'nextMs', case when v_next_ms is not null then greatest(v_next_ms, 0) end);
  end if;
  return json_build_object('dead', v_dead, 'nextMs', null, 'claim', json_build_object('session', v_session.id,
    'project', v_session.project, 'part', v_session.part, 'facts', v_session.facts, 'events', (
      select coalesce(json_agg(json_build_object('id', id, 'event', event, 'actor', actor_id, 'payload', payload,
        'receivedMs', to_ms(received_at)) order by position), '[]')
      from (
        select *, sum(size_bytes) over (order by position) as bytes, row_number() over (order by position) as nth from (
          select * from inbox where space_id = v_space and session_id = v_session.id and state = 'pending' order by position limit p_limit
        ) next
      ) next where nth = 1 or bytes <= p_bytes)));
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
-- where the write beside it was refused, nothing of what it was to write is there, and the event is not ended, nor its session let go.
-- What it said stands in contexts by then: what is in two places has to be erased in two.
create or replace function end_event(p_end jsonb) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  if exists (select from jsonb_each_text(p_end -> 'written') w left join context c on c.space_id = v_space and c.id = w.key
      where c.state is distinct from 'live' or encode(c.hash, 'hex') is distinct from w.value) then return; end if;
  perform hold_session(p_end ->> 'session', p_end ->> 'worker', (p_end ->> 'leaseMs')::integer);
  update inbox set state = 'done', finished_at = clock_timestamp(), reason = null, payload = null,
      contexts = array(select id from unnest(contexts || array(select jsonb_array_elements_text(p_end -> 'contexts')))
        with ordinality as each (id, nth) group by id order by min(nth))
    where space_id = v_space and id = p_end ->> 'id' and state = 'pending';
  -- Whoever erased what it was for has ended it.
  if not found then raise exception 'the event was ended' using errcode = 'LM008'; end if;
  update factory_session set part = (p_end ->> 'part')::integer, facts = p_end -> 'facts', updated_at = clock_timestamp()
    where space_id = v_space and id = p_end ->> 'session';
  perform note_due(p_end ->> 'session');
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
  perform note_due(p_session);
  return v_state;
end $$;

-- Has a dead event worked again; null where there is no such event.
create or replace function replay_event(p_id text) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_row inbox;
  v_is_begun boolean;
begin
  select * into v_row from inbox where space_id = v_space and id = p_id;
  if v_row.id is null then return null; end if;
  perform from factory_session where space_id = v_space and id = v_row.session_id for update;
  update inbox set state = 'pending', attempts = 0, next_at = clock_timestamp(), finished_at = null
    where space_id = v_space and id = p_id and state = 'dead';
  v_is_begun := found;
  perform note_due(v_row.session_id);
  select * into v_row from inbox where space_id = v_space and id = p_id;
  return jsonb_build_object('event', to_event(v_row), 'isBegun', v_is_begun);
end $$;

-- Nothing of an erased context stays in the inbox. All of a session that is erased waits no longer; the digests and the ids of
-- messages stay, so that what is sent again is known again. Of another event that names what was erased, such as a note, its
-- messages wait on, for they are the session's. A project is named by all that is below it, and says nothing of its own.
create or replace function erase_from_inbox(p_ids text[]) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_sessions text[] := array(select distinct split_part(id, ':', 3) from unnest(p_ids) id where id like 'factory:session:%');
  v_whole text[] := array(select distinct split_part(id, ':', 3) from unnest(p_ids) id where id ~ '^factory:session:[^:]+$');
  v_named text[] := array(select id from unnest(p_ids) id where id !~ '^factory:(session|project):');
begin
  v_sessions := v_sessions || array(
    select distinct session_id from inbox where space_id = v_space and v_named <> '{}' and contexts && v_named order by session_id);
  -- Whoever works on one of them has read what is not to be written any more.
  perform from factory_session where space_id = v_space and id = any (v_sessions) order by id for update;
  update factory_session set facts = '{}', worker = null, lease_until = null where space_id = v_space and id = any (v_sessions);
  insert into factory_erased (space_id, session_id) select v_space, unnest(v_whole)
    on conflict (space_id, session_id) do update set erased_at = excluded.erased_at;
  update inbox set payload = null, contexts = '{}', reason = 'erased', state = 'done', finished_at = coalesce(finished_at, clock_timestamp())
    where space_id = v_space and session_id = any (v_whole);
  update inbox set contexts = array(select id from unnest(contexts) id where id <> all (v_named)),
      payload = payload || jsonb_build_object('event', (select jsonb_object_agg(key, value) from jsonb_each(payload -> 'event')
        where key in ('hook_event_name', 'session_id', 'cwd')))
    where space_id = v_space and v_named <> '{}' and contexts && v_named;
  update factory_session set next_at = null where space_id = v_space and id = any (v_whole);
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
