-- Which sessions are due is read off an index instead of from all that is pending; and what was erased stays known for as long as
-- its transcript may come again.

alter table factory_session add column next_at timestamptz(3);
comment on column factory_session.next_at is 'When its first pending event is due; null where none is pending.';
comment on column factory_session.facts is 'What its summary is made of so far; emptied where something that may be in it is erased.';
-- The owner of the tables is held to the policies, too, and would see no row.
alter table factory_session no force row level security;
alter table inbox no force row level security;
update factory_session s set next_at = (
  select i.next_at from inbox i where i.space_id = s.space_id and i.session_id = s.id and i.state = 'pending' order by i.position limit 1);
alter table factory_session force row level security;
alter table inbox force row level security;
create index factory_session_due on factory_session (space_id, next_at) where next_at is not null;

comment on column inbox.payload is '{event, project, messages}; null when it is done. Of what names an erased context only the place stays.';
comment on column inbox.contexts is 'The contexts it is for, and those it was written to.';

create table factory_erased (
  space_id text collate "C" not null,
  session_id text collate "C" not null,
  erased_at timestamptz(3) not null default clock_timestamp(),
  primary key (space_id, session_id)
);
comment on table factory_erased is 'Sessions that were erased. It outlives the ids of their messages: by then, what was said before is told by its time.';
alter table factory_erased enable row level security;
alter table factory_erased force row level security;
create policy own_space on factory_erased to lamina_app
  using (space_id = current_setting('lamina.space', true))
  with check (space_id = current_setting('lamina.space', true));
grant select, insert, update, delete on factory_erased to lamina_app;

-- Their answers are others now.
drop function if exists claim_events(text, integer, integer, bigint);
