-- What makes the index cheap to write to.

-- Each put_chunks puts what it left pending in order itself, once, so there is room for all that one of them brings.
alter index chunk_terms set (gin_pending_list_limit = 16384);

-- Counts change again and again: with room beside them, a page holds the next of them, too, and the primary key stays as it is.
alter table chunk_term set (fillfactor = 50);
