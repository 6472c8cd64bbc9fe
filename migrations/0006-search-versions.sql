-- What is indexed is told apart by the time it was written, too: a purged id begins again with version 1.

alter table search_document add column written_at timestamptz;
comment on column search_document.written_at is 'When the indexed version was written; null where that is not known, and the head is compared.';

alter table search_state add column rebuilt_to text collate "C";
alter table search_state add column rebuilt_from bigint;
comment on column search_state.rebuilt_from is 'The clock when that rebuild began: what came later is in the feed.';
comment on column search_state.rebuilt_to is 'The last context that a rebuild under way has taken in; null where none is.';

-- Words choose among the live contexts alone: see index_door in 0005.
create policy index_door on context for select to current_user using (true);

-- Functions of before, under names that now take more.
drop function if exists match_words(text[], integer[], double precision[], integer, double precision, double precision, double precision, text, text, text[]);
drop function if exists match_vectors(text, text, text[], text, text, text[]);
