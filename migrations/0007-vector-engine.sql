-- What a search engine beside PostgreSQL may hold. A row comes before its entry does, and goes after it: whatever happens in
-- between, what the engine has too much or lacks is known. One process at a time speaks to the engine for a space.

create sequence vector_entry_revision;
grant usage on sequence vector_entry_revision to lamina_app;

create table vector_entry (
  space_id text collate "C" not null references space (id),
  context_id text collate "C" not null,
  key uuid not null,
  revision bigint not null,
  held_of text,
  primary key (space_id, context_id, key)
);
comment on table vector_entry is 'Entries that a search engine beside PostgreSQL may hold: of chunks, and of those that went.';
comment on column vector_entry.revision is 'Another for each time that the entry is sent, or removed while its chunk is there.';
comment on column vector_entry.held_of is 'Which engine and embedder have confirmed it; null while that is not known.';

alter table vector_entry enable row level security;
alter table vector_entry force row level security;
create policy own_space on vector_entry to lamina_app
  using (space_id = current_setting('lamina.space', true))
  with check (space_id = current_setting('lamina.space', true));
grant select, insert, update, delete on vector_entry to lamina_app;

alter table search_state add column has_garbage boolean not null default false;
alter table search_state add column lease text;
alter table search_state add column leased_until timestamptz;
alter table search_state add column owner text;
alter table search_state add column owned_since timestamptz;
alter table search_state add column owner_seen timestamptz;
comment on column search_state.has_garbage is 'Entries may be left of chunks that went.';
comment on column search_state.lease is 'Who speaks to the engine, until leased_until.';
comment on column search_state.owner is 'Whose vectors the chunks are to have, since owned_since: a process that is older does not take them back.';
comment on column search_state.owner_seen is 'When it was last at work here, give or take an hour.';

create table dropped_tenant (
  tenant text collate "C" primary key,
  at timestamptz not null default clock_timestamp()
);
comment on table dropped_tenant is 'What deleted spaces had in the engine: dropped again for some minutes, for what was still on its way. The owner''s alone.';
alter table dropped_tenant enable row level security;
alter table dropped_tenant force row level security;
create policy owners on dropped_tenant to current_user using (true) with check (true);
