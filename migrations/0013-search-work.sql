-- What makes searches and indexing cheaper.

-- A search asks which of what it has found are transcripts; most are not, and need not be looked up for that.
create index search_document_transcripts on search_document (space_id, id) where is_transcript;

-- Chunks come in lots, each of which holds most of the words there are: to count them once for all lots is to write a row of
-- chunk_term once instead of again and again.
create table chunk_term_pending (
  space_id text collate "C" not null,
  id bigint generated always as identity,
  terms integer[] not null,
  chunks integer[] not null,
  primary key (space_id, id)
);
comment on table chunk_term_pending is 'Counts of terms that are still to be added to chunk_term: fold_terms does, before the index says that it has seen the writes.';
comment on column chunk_term_pending.chunks is 'How many chunks that hold the term at the same place have come; below zero, have gone.';
-- Hashes are not to be compressed.
alter table chunk_term_pending alter column terms set storage external, alter column chunks set storage external;

alter table chunk_term_pending enable row level security;
alter table chunk_term_pending force row level security;
create policy own_space on chunk_term_pending to lamina_app
  using (space_id = current_setting('lamina.space', true))
  with check (space_id = current_setting('lamina.space', true));
grant select, insert, update, delete on chunk_term_pending to lamina_app;
