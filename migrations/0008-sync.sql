-- Synchronisation: the other sides, what was last agreed on with each, what could not be joined, and what the runs did.

create table peer (
  space_id text collate "C" not null references space (id),
  name text collate "C" not null,
  definition jsonb not null,
  other_side text not null,
  remote_cursor text,
  created_at timestamptz(3) not null default clock_timestamp(),
  updated_at timestamptz(3) not null default clock_timestamp(),
  run_id text collate "C",
  run_until timestamptz(3),
  next_at timestamptz(3),
  failures integer not null default 0,
  primary key (space_id, name)
);
comment on table peer is 'The other sides of synchronisation. How far each has come in the feed is told by the follower peer:<name>.';
comment on column peer.definition is 'Type, transport, strategy, direction, interval and subtree; transport holds secrets, which never leave.';
comment on column peer.other_side is 'What tells one store from another: where it changes, nothing that was agreed on counts any more.';
comment on column peer.remote_cursor is 'Up to where the other side was seen, in its own terms; null until a run has seen all of both sides.';
comment on column peer.run_id is 'The run that may write for this peer, until run_until.';
comment on column peer.next_at is 'When the schedule runs it; null where it has no interval.';

create table peer_base (
  space_id text collate "C" not null,
  peer text collate "C" not null,
  id text collate "C" not null,
  state text not null check (state in ('none', 'known', 'erased')),
  fingerprint text,
  value jsonb,
  hash bytea generated always as (decode(value ->> 'hash', 'hex')) stored,
  is_due boolean not null default false,
  note text,
  primary key (space_id, peer, id)
);
comment on table peer_base is 'What both sides last agreed on, item by item; it holds its own content.';
comment on column peer_base.state is 'none: nothing yet; known: value; erased: only that the other side has to confirm the delete.';
comment on column peer_base.fingerprint is 'SHA-256 of the value as far as the peer can hold it, 64 hexadecimal digits.';
comment on column peer_base.value is '{hash, contentType, sizeBytes, kind, parentId, metadata, expiresMs}; metadata as JSON text.';
comment on column peer_base.is_due is 'The next run looks at it whether or not a side has changed; note says why.';

create index peer_base_due on peer_base (space_id, peer, id) where is_due;
create index peer_base_hash on peer_base (space_id, hash) where hash is not null;
create index peer_base_context on peer_base (space_id, id);

create table conflict (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  peer text collate "C" not null,
  context_id text collate "C" not null,
  base jsonb,
  ours jsonb,
  theirs jsonb,
  ours_version integer not null,
  fingerprints jsonb not null,
  paths jsonb not null,
  created_at timestamptz(3) not null default clock_timestamp(),
  updated_at timestamptz(3) not null default clock_timestamp(),
  settled_at timestamptz(3),
  settlement jsonb,
  primary key (space_id, id)
);
comment on table conflict is 'Two changes that no strategy could join; base, ours and theirs are kept, as in peer_base, until it is settled.';
comment on column conflict.ours is 'Null where our side has deleted it; theirs and base likewise.';
comment on column conflict.fingerprints is '{ours, theirs} of both sides, so that a run knows whether anything has changed since.';
comment on column conflict.settlement is '{choose, actor}; by nobody where the sides have become equal by themselves.';

create unique index conflict_open on conflict (space_id, peer, context_id) where settled_at is null;
create index conflict_context on conflict (space_id, context_id);

create table peer_run (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  peer text collate "C" not null,
  trigger text not null,
  started_at timestamptz(3) not null default clock_timestamp(),
  finished_at timestamptz(3),
  outcome text not null check (outcome in ('running', 'done', 'halted', 'failed', 'lost')),
  reason text,
  counts jsonb not null default '{}',
  primary key (space_id, id)
);
comment on table peer_run is 'The runs of each peer, the last hundred.';
comment on column peer_run.outcome is 'lost: its process ended or froze, and another run has taken over.';

create index peer_run_peer on peer_run (space_id, peer, id desc);

do $$
declare
  v_table text;
begin
  foreach v_table in array array['peer', 'peer_base', 'conflict', 'peer_run'] loop
    execute format('alter table %I enable row level security', v_table);
    execute format('alter table %I force row level security', v_table);
    execute format($policy$create policy own_space on %I to lamina_app
      using (space_id = current_setting('lamina.space', true))
      with check (space_id = current_setting('lamina.space', true))$policy$, v_table);
    execute format('grant select, insert, update, delete on %I to lamina_app', v_table);
  end loop;
end $$;

create view sync_statistics with (security_invoker = true) as
select
  p.space_id,
  p.name as peer,
  s.clock - coalesce(f.cursor, 0) as lag,
  p.failures,
  p.next_at,
  count(r.id) as runs,
  count(r.id) filter (where r.outcome = 'failed') as failed,
  count(r.id) filter (where r.outcome = 'halted') as halted,
  count(r.id) filter (where r.outcome = 'lost') as lost,
  max(r.finished_at) filter (where r.outcome = 'done') as synchronised_at,
  percentile_cont(0.5) within group (order by extract(epoch from r.finished_at - r.started_at) * 1000) as run_ms_p50,
  percentile_cont(0.95) within group (order by extract(epoch from r.finished_at - r.started_at) * 1000) as run_ms_p95,
  (select count(*) from conflict c where c.space_id = p.space_id and c.peer = p.name and c.settled_at is null) as conflicts,
  (select count(*) from peer_base b where b.space_id = p.space_id and b.peer = p.name and b.state = 'known') as items,
  (select count(*) from peer_base b where b.space_id = p.space_id and b.peer = p.name and b.is_due) as due
from peer p
join space s on s.id = p.space_id
left join follower f on f.space_id = p.space_id and f.name = 'peer:' || p.name
left join peer_run r on r.space_id = p.space_id and r.peer = p.name
group by p.space_id, p.name, s.clock, f.cursor;
comment on view sync_statistics is 'A row a peer: how far behind it is in ticks, how its last hundred runs went, and what waits.';
grant select on sync_statistics to lamina_app;

-- Answers with the peers, too, from now on.
drop function if exists erase_one(context, jsonb);
