-- Synchronisation with peers; see lib/sync/SPEC.md. A run holds its peer by a lease. Whatever it writes goes through
-- hold_peer in the same transaction, so a run that froze and lost its lease can write nothing more.

-- A peer as those may know it who may know its secrets: the code that speaks to it.
create or replace function to_peer(p_peer peer) returns jsonb language sql as $$
  select jsonb_build_object('name', p_peer.name, 'definition', p_peer.definition, 'remoteCursor', p_peer.remote_cursor,
    'createdMs', to_ms(p_peer.created_at), 'updatedMs', to_ms(p_peer.updated_at), 'nextMs', to_ms(p_peer.next_at),
    'failures', p_peer.failures, 'runId', case when p_peer.run_until > clock_timestamp() then p_peer.run_id end,
    'cursor', (select cursor from follower where space_id = p_peer.space_id and name = 'peer:' || p_peer.name),
    'due', (select count(*) from peer_base b where b.space_id = p_peer.space_id and b.peer = p_peer.name and b.is_due),
    'conflicts', (select count(*) from conflict c where c.space_id = p_peer.space_id and c.peer = p_peer.name and c.settled_at is null));
$$;

create or replace function audit_peer(p_action text, p_target text, p_options jsonb) returns void language sql as $$
  insert into audit (space_id, id, actor_kind, actor_id, action, target) values (current_setting('lamina.space'),
    p_options ->> 'auditId', p_options -> 'actor' ->> 'kind', p_options -> 'actor' ->> 'id', p_action, p_target);
$$;

-- What was agreed on with a peer is forgotten; bytes that nothing else holds go with the next cleanup.
create or replace function forget_bases(p_name text) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  insert into garbage (space_id, hash) select distinct v_space, hash from peer_base
    where space_id = v_space and peer = p_name and hash is not null;
  insert into garbage (space_id, hash) select distinct v_space, decode(value ->> 'hash', 'hex') from conflict c
    cross join lateral (values (c.base), (c.ours), (c.theirs)) held (value)
    where c.space_id = v_space and c.peer = p_name and value ->> 'hash' is not null;
  delete from conflict where space_id = v_space and peer = p_name;
  delete from peer_base where space_id = v_space and peer = p_name;
end $$;

-- Names a peer, or changes it. A secret that is sent as null keeps what it was, as long as it goes where it went. Where the
-- other side is another store than before, nothing counts as agreed on; where it is to be synchronised otherwise, both sides
-- are looked at anew.
create or replace function put_peer(p_name text, p_definition jsonb, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_before peer;
  v_peer peer;
  v_part text;
  v_is_there boolean;
  v_other_side text;
  v_recorded jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  insert into peer (space_id, name, definition, other_side) values (v_space, p_name, '{}', '') on conflict do nothing;
  select * into v_before from peer where space_id = v_space and name = p_name for update;
  v_is_there := peer_place(v_before.definition) = peer_place(p_definition);
  foreach v_part in array array['headers', 'env'] loop
    if p_definition -> 'transport' ? v_part then
      p_definition := jsonb_set(p_definition, array['transport', v_part], coalesce((
        select jsonb_object_agg(key, coalesce(nullif(value, 'null'), v_before.definition -> 'transport' -> v_part -> key))
        from jsonb_each(p_definition -> 'transport' -> v_part)
        where value <> 'null' or (v_is_there and v_before.definition -> 'transport' -> v_part ? key)), '{}'));
    end if;
  end loop;
  -- Which file a memory server keeps is told by its environment alone.
  v_other_side := encode(sha256(convert_to((peer_place(p_definition) || jsonb_build_object('subtree', p_definition -> 'subtree',
    'file', p_definition -> 'transport' -> 'env' -> 'MEMORY_FILE_PATH'))::text, 'UTF8')), 'hex');
  update peer set definition = p_definition, other_side = v_other_side, updated_at = clock_timestamp(), failures = 0,
      next_at = case when p_definition ? 'intervalSeconds' then clock_timestamp() end,
      remote_cursor = case when other_side = v_other_side and v_before.definition -> 'strategy' = p_definition -> 'strategy'
        and v_before.definition -> 'direction' = p_definition -> 'direction' then remote_cursor end
    where space_id = v_space and name = p_name returning * into v_peer;
  if v_before.other_side <> v_other_side then
    perform forget_bases(p_name);
    -- Whoever is at work for the store that was there before writes nothing more.
    update peer set run_id = null, run_until = null where space_id = v_space and name = p_name returning * into v_peer;
  end if;
  -- The feed is kept from here on until a run has seen it.
  insert into follower (space_id, name, cursor) values (v_space, 'peer:' || p_name, space_clock())
    on conflict (space_id, name) do nothing;
  perform audit_peer('peer.put', p_name, p_options);
  perform keep_answer(p_options, jsonb_build_object('created', v_before.definition = '{}'));
  return jsonb_build_object('clock', space_clock(), 'created', v_before.definition = '{}', 'peer', to_peer(v_peer));
end $$;

-- Where a peer is, and so where its secrets go.
create or replace function peer_place(p_definition jsonb) returns jsonb language sql immutable as $$
  select jsonb_build_object('type', p_definition -> 'type', 'url', p_definition -> 'transport' -> 'url',
    'command', p_definition -> 'transport' -> 'command', 'args', p_definition -> 'transport' -> 'args');
$$;

create or replace function remove_peer(p_name text, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_recorded jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  delete from peer where space_id = v_space and name = p_name;
  if not found then
    perform release_key(p_options);
    return jsonb_build_object('clock', space_clock(), 'removed', false);
  end if;
  perform forget_bases(p_name);
  delete from peer_run where space_id = v_space and peer = p_name;
  delete from follower where space_id = v_space and name = 'peer:' || p_name;
  perform audit_peer('peer.remove', p_name, p_options);
  perform keep_answer(p_options, '{"removed": true}');
  return jsonb_build_object('clock', space_clock(), 'removed', true);
end $$;

-- Takes the peer for a run, or answers with the run that has it. Answers null where there is no such peer. A run that was begun
-- before and did not come to its end goes on; of one that did, its outcome is the answer.
create or replace function begin_run(p_name text, p_run text, p_lease_ms integer, p_trigger text) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_peer peer;
  v_outcome text;
begin
  select * into v_peer from peer where space_id = v_space and name = p_name for update;
  if not found then return null; end if;
  select outcome into v_outcome from peer_run where space_id = v_space and id = p_run and outcome not in ('running', 'lost');
  if found then return jsonb_build_object('ended', v_outcome); end if;
  if v_peer.run_until > clock_timestamp() then return jsonb_build_object('running', v_peer.run_id); end if;
  update peer_run set outcome = 'lost', finished_at = clock_timestamp()
    where space_id = v_space and peer = p_name and outcome = 'running';
  update peer set run_id = p_run, run_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0)
    where space_id = v_space and name = p_name;
  insert into peer_run (space_id, id, peer, trigger, outcome) values (v_space, p_run, p_name, p_trigger, 'running')
    on conflict (space_id, id) do update set outcome = 'running', finished_at = null;
  delete from peer_run where space_id = v_space and peer = p_name and id <= (
    select id from peer_run where space_id = v_space and peer = p_name order by id desc offset 100 limit 1);
  return read_run(p_name);
end $$;

-- What a run begins from: the peer, where the feed stands, and which items are due whatever has changed.
create or replace function read_run(p_name text) returns jsonb language sql as $$
  select jsonb_build_object('peer', to_peer(p), 'clock', s.clock, 'floor', s.feed_floor,
    'items', (select count(*) from peer_base b where b.space_id = p.space_id and b.peer = p.name and b.state = 'known'),
    'due', coalesce((select jsonb_agg(b.id) from peer_base b where b.space_id = p.space_id and b.peer = p.name and b.is_due), '[]'))
  from peer p join space s on s.id = p.space_id where p.space_id = current_setting('lamina.space') and p.name = p_name;
$$;

-- Breaks the transaction of a run that no longer holds its peer, and holds the peer for longer otherwise.
create or replace function hold_peer(p_name text, p_run text, p_lease_ms integer) returns void language plpgsql as $$
begin
  update peer set run_until = clock_timestamp() + make_interval(secs => p_lease_ms / 1000.0)
    where space_id = current_setting('lamina.space') and name = p_name and run_id = p_run;
  if not found then raise exception 'another run has taken over the peer' using errcode = 'LM005'; end if;
end $$;

create or replace function stored_value(p_value jsonb) returns jsonb language sql immutable as $$
  select nullif(p_value, 'null') - array['encoding', 'first', 'parts'];
$$;

-- Keeps the contents of values: those whose parts were sent, and those that are here already, which must not have gone.
create or replace function keep_values(p_values jsonb[], p_parts text[]) returns void language plpgsql as $$
declare
  v_value jsonb;
  v_here bytea[] := array(select distinct decode(v ->> 'hash', 'hex') from unnest(p_values) v where not v ? 'parts');
  v_found integer;
begin
  foreach v_value in array p_values loop
    continue when not v_value ? 'parts';
    perform keep_content(decode(v_value ->> 'hash', 'hex'), v_value, p_parts);
  end loop;
  select count(*) into v_found from (
    select c.hash from unnest(v_here) asked (hash) cross join lateral (
      select hash from content where space_id = current_setting('lamina.space') and hash = asked.hash and part = 0 offset 0 for key share) c
  ) locked;
  if v_found < coalesce(array_length(v_here, 1), 0) then raise exception 'a content is gone' using errcode = 'LM006'; end if;
end $$;

-- The hashes of the contents that the open conflict over an item holds.
create or replace function conflict_hashes(p_name text, p_id text) returns setof bytea language sql as $$
  select decode(v ->> 'hash', 'hex') from conflict c cross join lateral (values (c.base), (c.ours), (c.theirs)) held (v)
  where c.space_id = current_setting('lamina.space') and c.peer = p_name and c.context_id = p_id and c.settled_at is null
    and v ->> 'hash' is not null;
$$;

-- Notes what a run found out, item by item:
-- {id, state: known | gone, fingerprint?, value?, isDue, note?}: what is agreed on now; absent state keeps it. A fingerprint
--   without a state is of what is being sent where nothing is agreed on: whatever happens then, it is known to be ours.
--   isApplied: only where this very transaction has written the context for the peer.
--   conflict: {id, base, ours, theirs, oursVersion, fingerprints, paths}: it cannot be joined.
--   isSettled: the conflict that was open is none any more. seen: the conflict that was open when the run looked at the item.
create or replace function settle_bases(p_name text, p_run text, p_lease_ms integer, p_items jsonb, p_parts text[]) returns void
language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_items jsonb[];
  v_item jsonb;
  v_conflict jsonb;
  v_old bytea[];
begin
  -- Locks are taken as everywhere: contexts, then the peer, then what is noted of it.
  perform from context where space_id = v_space and id = any (array(select i ->> 'id' from jsonb_array_elements(p_items) i)) order by id for share;
  perform hold_peer(p_name, p_run, p_lease_ms);
  -- Everything is found by its keys, one after another (`offset 0` sees to it): the planner knows nothing of what has just grown.
  select coalesce(array_agg(i), '{}') into v_items from jsonb_array_elements(p_items) i
  where (not i ? 'isApplied' or exists (
    select from context c where c.space_id = v_space and c.id = i ->> 'id' and c.actor_kind = 'sync' and c.actor_id = p_name
      and c.updated_at >= date_trunc('milliseconds', now()) offset 0))
    -- What was settled meanwhile stands as it was settled, and is due.
    and (not i ? 'seen' or not exists (
      select from conflict where space_id = v_space and id = i ->> 'seen' and settled_at is not null offset 0));

  -- What was erased meanwhile keeps nothing but that the peer has to confirm it, whatever the run has seen before.
  select coalesce(array_agg(case when c.state = 'erased' and (i ? 'value' or i ? 'conflict')
    then jsonb_build_object('id', i -> 'id', 'state', 'erased', 'isDue', true) else i end), '{}') into v_items
  from unnest(v_items) i left join lateral (select state from context where space_id = v_space and id = i ->> 'id' offset 0) c on true;
  perform keep_values(array(select v from unnest(v_items) i
    cross join lateral (values (i -> 'value'), (i -> 'conflict' -> 'base'), (i -> 'conflict' -> 'ours'), (i -> 'conflict' -> 'theirs')) held (v)
    where jsonb_typeof(v) = 'object'), p_parts);
  v_old := array(select b.hash from unnest(v_items) i cross join lateral (
    select hash from peer_base where space_id = v_space and peer = p_name and id = i ->> 'id' offset 0) b where b.hash is not null);
  delete from peer_base b using unnest(v_items) i
    where i ->> 'state' = 'gone' and b.space_id = v_space and b.peer = p_name and b.id = i ->> 'id';
  insert into peer_base (space_id, peer, id, state, fingerprint, value, is_due, note)
  select v_space, p_name, i ->> 'id', coalesce(i ->> 'state', 'none'), i ->> 'fingerprint', stored_value(i -> 'value'),
    coalesce((i ->> 'isDue')::boolean, false), i ->> 'note' from unnest(v_items) i where i ->> 'state' is distinct from 'gone'
  on conflict (space_id, peer, id) do update set
    -- A state that was not sent stands as none here.
    state = case excluded.state when 'none' then peer_base.state else excluded.state end,
    fingerprint = case when excluded.state <> 'none' then excluded.fingerprint
      when peer_base.state = 'none' then coalesce(excluded.fingerprint, peer_base.fingerprint) else peer_base.fingerprint end,
    value = case excluded.state when 'none' then peer_base.value else excluded.value end,
    is_due = excluded.is_due, note = excluded.note;

  foreach v_item in array v_items loop
    v_conflict := v_item -> 'conflict';
    if v_item ? 'isSettled' or jsonb_typeof(v_conflict) = 'object' then v_old := v_old || array(select conflict_hashes(p_name, v_item ->> 'id')); end if;
    if v_item ? 'isSettled' then
      update conflict set settled_at = clock_timestamp(), base = null, ours = null, theirs = null, settlement = '{"choose": null}'
        where space_id = v_space and peer = p_name and context_id = v_item ->> 'id' and settled_at is null;
    end if;
    continue when jsonb_typeof(v_conflict) is distinct from 'object';
    insert into conflict (space_id, id, peer, context_id, base, ours, theirs, ours_version, fingerprints, paths)
    values (v_space, v_conflict ->> 'id', p_name, v_item ->> 'id', stored_value(v_conflict -> 'base'), stored_value(v_conflict -> 'ours'),
      stored_value(v_conflict -> 'theirs'), (v_conflict ->> 'oursVersion')::integer, v_conflict -> 'fingerprints', v_conflict -> 'paths')
    on conflict (space_id, peer, context_id) where settled_at is null do update set base = excluded.base, ours = excluded.ours,
      theirs = excluded.theirs, ours_version = excluded.ours_version, fingerprints = excluded.fingerprints, paths = excluded.paths,
      updated_at = clock_timestamp();
  end loop;
  -- What nothing holds any more is found by cleanup.
  perform note_garbage(v_old);
end $$;

-- Ends a run and lets the peer go; with the outcome 'running' it is to go on. p_end: {outcome, reason?, counts, cursor?, remoteCursor?, backOff}
create or replace function end_run(p_name text, p_run text, p_end jsonb) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_cursor bigint;
begin
  perform hold_peer(p_name, p_run, 0);
  update peer set run_id = null, run_until = null,
      remote_cursor = coalesce(p_end ->> 'remoteCursor', remote_cursor),
      -- Who was told to stop has not failed.
      failures = case when p_end ->> 'outcome' = 'done' then 0 when p_end ->> 'backOff' = '0' then failures else failures + 1 end,
      -- Its interval may have been changed since the run began.
      next_at = case when definition ? 'intervalSeconds' then clock_timestamp() + make_interval(secs => least(
        (definition ->> 'intervalSeconds')::double precision * (p_end ->> 'backOff')::double precision,
        greatest((definition ->> 'intervalSeconds')::double precision, 3600))) end
    where space_id = v_space and name = p_name;
  if p_end ? 'cursor' then
    v_cursor := (p_end ->> 'cursor')::bigint;
    -- What the run itself has written is no news to the next one, but for what it has moved: what lies below that may have come
    -- over the edge of a subtree. One statement, so that the clock is that of what it saw.
    select greatest(s.clock, v_cursor) into v_cursor from space s where s.id = v_space and not exists (
      select from change h where h.space_id = v_space and h.tick > v_cursor and h.kind = 'context'
        and (h.actor_kind is distinct from 'sync' or h.actor_id is distinct from p_name
          or (h.version > 1 and h.parent_before is distinct from h.parent_after)))
    union all select v_cursor limit 1;
    insert into follower (space_id, name, cursor) values (v_space, 'peer:' || p_name, v_cursor)
    on conflict (space_id, name) do update set cursor = excluded.cursor, updated_at = clock_timestamp();
  end if;
  update peer_run set finished_at = case when p_end ->> 'outcome' <> 'running' then clock_timestamp() end, outcome = p_end ->> 'outcome', reason = p_end ->> 'reason',
      counts = p_end -> 'counts'
    where space_id = v_space and id = p_run;
end $$;

-- Settles a conflict: what the other side had becomes what both sides agreed on, so that the next run sends it what our
-- side holds now. The context itself is written by the same transaction, where it is to change at all (then p_version is what it has to be at).
create or replace function settle_conflict(p_id text, p_settlement jsonb, p_version integer) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_conflict conflict;
begin
  perform from peer p where p.space_id = v_space and p.name = (select peer from conflict where space_id = v_space and id = p_id) for update;
  select * into v_conflict from conflict where space_id = v_space and id = p_id and settled_at is null for update;
  if not found then raise exception 'the conflict was settled' using errcode = 'LM007'; end if;
  if p_version is not null and not exists (select from context where space_id = v_space and id = v_conflict.context_id
      and version = p_version and actor_kind = p_settlement -> 'actor' ->> 'kind' and actor_id = p_settlement -> 'actor' ->> 'id'
      and updated_at >= date_trunc('milliseconds', now())) then return; end if;
  insert into peer_base (space_id, peer, id, state, fingerprint, value, is_due) values (v_space, v_conflict.peer, v_conflict.context_id,
    case when v_conflict.theirs is null then 'none' else 'known' end, v_conflict.fingerprints ->> 'theirs', v_conflict.theirs, true)
  on conflict (space_id, peer, id) do update set state = excluded.state, fingerprint = excluded.fingerprint, value = excluded.value,
    is_due = true, note = null;
  perform note_garbage(array[decode(v_conflict.base ->> 'hash', 'hex'), decode(v_conflict.ours ->> 'hash', 'hex')]);
  update conflict set settled_at = clock_timestamp(), settlement = p_settlement, base = null, ours = null, theirs = null
    where space_id = v_space and id = p_id;
  update peer set next_at = clock_timestamp() where space_id = v_space and name = v_conflict.peer and next_at is not null;
end $$;

-- Contents that what was agreed on or could not be joined holds, beside the versions.
create or replace function is_content_held(p_hash bytea) returns boolean language sql as $$
  select exists (select from context_version where space_id = current_setting('lamina.space') and hash = p_hash)
    or exists (select from peer_base where space_id = current_setting('lamina.space') and hash = p_hash)
    or exists (select from conflict where space_id = current_setting('lamina.space') and settled_at is null
      and encode(p_hash, 'hex') in (base ->> 'hash', ours ->> 'hash', theirs ->> 'hash'));
$$;

-- An erased context leaves no trace but that each peer which held it has to confirm the delete. Answers with those.
create or replace function erase_from_peers(p_id text, out peers text[], out hashes bytea[]) language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  hashes := array(select hash from peer_base where space_id = v_space and id = p_id and hash is not null)
    || array(select decode(v ->> 'hash', 'hex') from conflict c cross join lateral (values (c.base), (c.ours), (c.theirs)) held (v)
      where c.space_id = v_space and c.context_id = p_id and v ->> 'hash' is not null);
  delete from conflict where space_id = v_space and context_id = p_id;
  with erased as (
    update peer_base set state = 'erased', fingerprint = null, value = null, is_due = true, note = null
    where space_id = v_space and id = p_id returning peer
  ) select coalesce(array_agg(peer order by peer), '{}') into peers from erased;
end $$;

-- Which of these contexts are alive and lie in the subtree of p_root, the root included; anywhere where there is no root.
create or replace function ids_within(p_ids text[], p_root text) returns text[] language sql as $$
  with recursive up (id, at, parent_id, depth) as (
    select c.id, c.id, c.parent_id, 0 from context c
      where c.space_id = current_setting('lamina.space') and c.id = any (p_ids) and is_live(c)
    union all
    select up.id, c.id, c.parent_id, up.depth + 1 from up
      join context c on c.space_id = current_setting('lamina.space') and c.id = up.parent_id and is_live(c)
    where p_root is not null and up.at <> p_root and up.depth < 64
  )
  select coalesce(array_agg(distinct id), '{}') from up where p_root is null or at = p_root;
$$;

-- What was agreed on with a peer of these contexts and of what lay below them then.
create or replace function agreed_below(p_peer text, p_ids text[]) returns text[] language sql as $$
  with recursive agreed (id) as (
    select unnest(p_ids) collate "C"
    union
    select b.id from agreed join peer_base b on b.space_id = current_setting('lamina.space') and b.peer = p_peer
      and b.state = 'known' and b.value ->> 'parentId' = agreed.id
  )
  select coalesce(array_agg(id), '{}') from agreed where exists (select from peer_base b
    where b.space_id = current_setting('lamina.space') and b.peer = p_peer and b.id = agreed.id and b.state = 'known');
$$;

-- What lies below these contexts, alive, without these.
create or replace function live_below(p_ids text[]) returns text[] language sql as $$
  with recursive below (id) as (
    select unnest(p_ids) collate "C"
    union
    select c.id from below join context c on c.space_id = current_setting('lamina.space') and c.parent_id = below.id and is_live(c)
  )
  select coalesce(array_agg(id), '{}') from below where id <> all (p_ids);
$$;

create or replace function forget_conflicts(p_days double precision, p_limit integer) returns integer language sql as $$
  with deleted as (
    delete from conflict where space_id = current_setting('lamina.space') and id in (
      select id from conflict where space_id = current_setting('lamina.space')
        and settled_at < clock_timestamp() - make_interval(secs => p_days * 86400) limit p_limit for update skip locked)
    returning 1
  ) select count(*)::integer from deleted;
$$;
