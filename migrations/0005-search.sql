-- The search index: chunks of the heads' contents with their words, and beside them their vectors, where PostgreSQL has
-- pgvector (functions/11-search.sql). Everything here can be made anew from the contexts.

create table search_document (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  version integer not null,
  is_transcript boolean not null,
  keys uuid[] not null,
  starts integer[] not null,
  ends integer[] not null,
  primary key (space_id, id)
);
comment on table search_document is 'What is indexed of a context: its chunks in order. A chunk that no document names is not found.';
comment on column search_document.version is 'The version of the context that the chunks are of; the head may be newer.';
comment on column search_document.is_transcript is 'Chunks are short turns of a conversation, so that what stands around one tells about it.';
comment on column search_document.starts is 'Where each chunk begins in the content, in bytes; ends likewise, not included.';

create table chunk (
  space_id text collate "C" not null references space (id),
  context_id text collate "C" not null,
  key uuid not null,
  header text not null,
  text text not null,
  lexemes tsvector not null,
  terms integer[] not null,
  words integer not null,
  primary key (space_id, context_id, key)
-- Rows stay whole: a tsvector that is stored apart would be fetched anew for each word of each query.
) with (toast_tuple_target = 8160);
comment on table chunk is 'Stretches of contents, as they are searched by words.';
comment on column chunk.key is 'Made of what is indexed, so that what stays the same keeps its row over all versions.';
comment on column chunk.header is 'What stands above the text when it is indexed: the title of the context, and headings or a JSON Pointer.';
comment on column chunk.terms is 'A hash of the space and each lexeme: by it the index finds candidates of this space alone.';
comment on column chunk.words is 'How many words there are but for stop words.';

-- What is pending is looked through by each query, and nothing vacuums an embedded database.
create index chunk_terms on chunk using gin (terms) with (gin_pending_list_limit = 256);

create table chunk_term (
  space_id text collate "C" not null references space (id),
  term integer not null,
  chunks integer not null,
  primary key (space_id, term)
);
comment on table chunk_term is 'How many chunks of the space hold a term: the rarer, the more it says.';

create table search_state (
  space_id text collate "C" primary key references space (id),
  chunks bigint not null default 0,
  words bigint not null default 0,
  vectors_of text
);
comment on table search_state is 'Totals of the index of a space; locked by whoever changes it.';
comment on column search_state.vectors_of is 'The embedder of which every chunk has its vector; null while some may be missing.';

do $$
declare
  v_table text;
begin
  foreach v_table in array array['search_document', 'chunk', 'chunk_term', 'search_state'] loop
    execute format('alter table %I enable row level security', v_table);
    execute format('alter table %I force row level security', v_table);
    execute format($policy$create policy own_space on %I to lamina_app
      using (space_id = current_setting('lamina.space', true))
      with check (space_id = current_setting('lamina.space', true))$policy$, v_table);
    execute format('grant select, insert, update, delete on %I to lamina_app', v_table);
  end loop;
end $$;

-- An index over arrays cannot be used under row-level security, whose predicate has to come first: match_words looks past
-- it, with the predicate in its own text, and what it finds is joined under row-level security again.
create policy index_door on chunk for select to current_user using (true);
