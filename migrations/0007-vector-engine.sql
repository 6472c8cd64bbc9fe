-- What a search engine beside PostgreSQL may hold. A row comes before its entry does, and goes after it: whatever happens in
-- between, what the engine has too much or lacks is known.

create sequence vector_entry_revision;
grant usage on sequence vector_entry_revision to lamina_app;

create table vector_entry (
  space_id text collate "C" not null references space (id),
  context_id text collate "C" not null,
  key uuid not null,
  revision bigint not null,
  begun bigint not null,
  sent_at timestamptz,
  held_of text,
  primary key (space_id, context_id, key)
);
comment on table vector_entry is 'Entries that a search engine beside PostgreSQL may hold: chunks, and what is left of those that went.';
comment on column vector_entry.revision is 'Another for each time that the entry is sent, or that its chunk comes or goes.';
comment on column vector_entry.begun is 'The revision with which it was sent last.';
comment on column vector_entry.sent_at is 'When it was sent last, until that has ended; while it may still arrive, the row stays.';
comment on column vector_entry.held_of is 'The embedder whose vector the engine has confirmed; null while that is not known.';

alter table vector_entry enable row level security;
alter table vector_entry force row level security;
create policy own_space on vector_entry to lamina_app
  using (space_id = current_setting('lamina.space', true))
  with check (space_id = current_setting('lamina.space', true));
grant select, insert, update, delete on vector_entry to lamina_app;
