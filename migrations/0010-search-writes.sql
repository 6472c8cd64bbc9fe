-- What makes the index cheap to write to.

-- Each put_chunks puts what it left pending in order itself, once, so there is room for all that one of them brings.
alter index chunk_terms set (gin_pending_list_limit = 16384);

-- Counts change again and again: with room beside them, a page holds the next of them, too, and the primary key stays as it is.
alter table chunk_term set (fillfactor = 50);

-- Whoever writes here holds the row of search_state, and that cannot be without its space: to look for the space again with
-- each row takes longer than to store the row.
alter table search_document drop constraint search_document_space_id_fkey;
alter table chunk drop constraint chunk_space_id_fkey;
alter table chunk_term drop constraint chunk_term_space_id_fkey;
alter table if exists chunk_vector drop constraint if exists chunk_vector_space_id_fkey;
