-- Factory's Droid: the events of its hooks, as they came in and until they are worked, and what is known of each session.

create table factory_session (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  project text collate "C" not null,
  part integer not null default 1,
  facts jsonb not null default '{}',
  last_digest text,
  last_event text collate "C",
  last_at timestamptz(3),
  worker text,
  lease_until timestamptz(3),
  created_at timestamptz(3) not null default clock_timestamp(),
  updated_at timestamptz(3) not null default clock_timestamp(),
  primary key (space_id, id)
);
comment on table factory_session is 'A session of Droid. Its row is locked by whoever receives or ends one of its events, so that these have an order.';
comment on column factory_session.id is 'As it stands in the ids of its contexts: factory:session:<id>.';
comment on column factory_session.project is 'The context of its project, by its first event.';
comment on column factory_session.part is 'The context that its messages go to: the session itself is 1, its children are the others.';
comment on column factory_session.facts is 'What its summary is made of so far; emptied where the session or its summary is erased.';
comment on column factory_session.last_digest is 'SHA-256 of the last event as it was sent, by which the same one is known again.';
comment on column factory_session.worker is 'Who may end its events, until lease_until.';

create table factory_transcript (
  space_id text collate "C" not null,
  session_id text collate "C" not null,
  source text collate "C" not null,
  position bigint not null,
  ahead int8multirange not null default '{}',
  unknown_lines bigint not null default 0,
  primary key (space_id, session_id, source)
);
comment on table factory_transcript is 'How far the transcript of a session was taken, by the file it stands in.';
comment on column factory_transcript.source is 'SHA-256 of host and path.';
comment on column factory_transcript.position is 'The byte after the last whole line up to which nothing is missing.';
comment on column factory_transcript.ahead is 'What was taken beyond a gap.';
comment on column factory_transcript.unknown_lines is 'Lines that nothing could be made of.';

create table factory_message (
  space_id text collate "C" not null,
  session_id text collate "C" not null,
  id text collate "C" not null,
  primary key (space_id, session_id, id)
);
comment on table factory_message is 'Which messages of a session were taken, whichever file or offset they came from.';

create table inbox (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  position bigint not null generated always as identity,
  session_id text collate "C" not null,
  event text not null,
  actor_id text not null,
  payload jsonb,
  size_bytes integer not null,
  contexts text[] not null,
  state text not null default 'pending' check (state in ('pending', 'done', 'dead')),
  attempts integer not null default 0,
  next_at timestamptz(3) not null default clock_timestamp(),
  reason text,
  received_at timestamptz(3) not null default clock_timestamp(),
  finished_at timestamptz(3),
  primary key (space_id, id)
);
comment on table inbox is 'Events as they were committed, credentials masked. Those of a session are worked in order of position.';
comment on column inbox.payload is '{event, messages}; messages go when it is done, and all of it when a context it was for is erased.';
comment on column inbox.contexts is 'The contexts it is for, and once it is done those it was written to.';
comment on column inbox.state is 'dead: it failed too often, for the reason given; it waits to be replayed.';

create index inbox_pending on inbox (space_id, session_id, position) where state = 'pending';
create index inbox_state on inbox (space_id, state, id);
create index inbox_finished on inbox (space_id, finished_at) where finished_at is not null;

do $$
declare
  v_table text;
begin
  foreach v_table in array array['factory_session', 'factory_transcript', 'factory_message', 'inbox'] loop
    execute format('alter table %I enable row level security', v_table);
    execute format('alter table %I force row level security', v_table);
    execute format($policy$create policy own_space on %I to lamina_app
      using (space_id = current_setting('lamina.space', true))
      with check (space_id = current_setting('lamina.space', true))$policy$, v_table);
    execute format('grant select, insert, update, delete on %I to lamina_app', v_table);
  end loop;
end $$;

create view event_statistics with (security_invoker = true) as
select
  space_id,
  count(*) filter (where state = 'pending') as pending,
  count(*) filter (where state = 'done') as done,
  count(*) filter (where state = 'dead') as dead,
  count(*) filter (where state = 'pending' and attempts > 0) as retried,
  extract(epoch from clock_timestamp() - min(received_at) filter (where state = 'pending')) * 1000 as oldest_pending_ms,
  percentile_cont(0.5) within group (order by extract(epoch from finished_at - received_at) * 1000)
    filter (where state = 'done') as done_ms_p50,
  percentile_cont(0.95) within group (order by extract(epoch from finished_at - received_at) * 1000)
    filter (where state = 'done') as done_ms_p95
from inbox
group by space_id;
comment on view event_statistics is 'A row a space: events by state, and how long they waited from receipt until they were done.';
grant select on event_statistics to lamina_app;
