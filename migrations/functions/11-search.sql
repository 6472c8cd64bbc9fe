-- The search index. Whoever changes it holds the row of search_state, so that its totals are exact; an erase does, too, and
-- so finds whatever came in before it.

-- Makes room for vectors where PostgreSQL has pgvector; without it, words alone are searched. Asked again, it makes up for
-- what could not be done before.
create or replace function enable_vectors() returns boolean language plpgsql as $$
begin
  if to_regclass('chunk_vector') is not null then return true; end if;
  if not exists (select from pg_available_extensions where name = 'vector') then return false; end if;
  create extension if not exists vector;
  create table if not exists chunk_vector (
    space_id text collate "C" not null,
    embedder text collate "C" not null,
    context_id text collate "C" not null,
    key uuid not null,
    embedding vector,
    primary key (space_id, embedder, context_id, key)
  );
  comment on table chunk_vector is 'Vectors of chunks, of length 1, apart by the embedder that made them.';
  comment on column chunk_vector.embedding is 'Null where the embedder has nothing to say about the text.';
  alter table chunk_vector enable row level security;
  alter table chunk_vector force row level security;
  create policy own_space on chunk_vector to lamina_app
    using (current_setting('lamina.space', true) = space_id) with check (current_setting('lamina.space', true) = space_id);
  grant select, insert, update, delete on chunk_vector to lamina_app;
  return true;
exception when insufficient_privilege then return false;
end $$;

do $$ begin perform enable_vectors(); end $$;

-- The name of the approximate index over the vectors of an embedder.
create or replace function vector_index(p_embedder text) returns text language sql immutable as $$
  select 'chunk_vector_' || left(md5(p_embedder), 16);
$$;

-- Keeps an HNSW index over the vectors of an embedder, of all spaces together. Asked before the first of them comes, it has
-- nothing to build. Needs pgvector 0.8, which looks on in the index where the filter by space leaves too few.
create or replace function enable_vector_index(p_embedder text, p_dimensions integer) returns boolean language plpgsql as $$
declare
  v_type text := case when p_dimensions <= 2000 then 'vector' when p_dimensions <= 4000 then 'halfvec' end;
begin
  if to_regclass('chunk_vector') is null or v_type is null then return false; end if;
  if to_regclass(vector_index(p_embedder)) is not null then return true; end if;
  if (select string_to_array(extversion, '.')::integer[] < '{0,8}' from pg_extension where extname = 'vector') then return false; end if;
  execute format('create index if not exists %I on chunk_vector using hnsw ((embedding::%s(%s)) %s_ip_ops) where embedder = %L',
    vector_index(p_embedder), v_type, p_dimensions, v_type, p_embedder);
  execute format('comment on index %I is %L', vector_index(p_embedder), format('%s(%s)', v_type, p_dimensions));
  return true;
exception when insufficient_privilege then return false;
end $$;

-- The space first, as whoever deletes it does.
create or replace function lock_search() returns void language plpgsql as $$
begin
  perform from space where id = current_setting('lamina.space') for key share;
  insert into search_state (space_id) values (current_setting('lamina.space')) on conflict do nothing;
  perform from search_state where space_id = current_setting('lamina.space') for update;
end $$;

-- Whether a context can be read as its head is, in the snapshot of the statement: asked within a statement, since a function
-- takes several times as long as what it asks. A row that is selected is asked for, one after another; "exists" could be joined.
-- What is selected, not what it is found by, says so: else the planner takes an index of live contexts that begins with others.
drop function if exists readable_condition(text);
create or replace function readable_condition(p_id text, p_is_checked boolean) returns text language sql immutable as $$
  select case when not p_is_checked then 'true' else
    format('(select c.state = ''live'' and (c.expires_at is null or c.expires_at > statement_timestamp()) from context c
      where c.space_id = current_setting(''lamina.space'') and c.id = %s)', p_id) end
$$;

-- Each query looks through what is pending in the index over terms.
create or replace function clean_terms() returns void language sql security definer set search_path = public, pg_temp as $$
  select gin_clean_pending_list('chunk_terms');
$$;

-- Adds up what was counted of chunks that came and, below zero, of those that went. A row is looked up for each term: who
-- joins them leaves it to the planner to read all terms of the space, which it does where it has no statistics.
create or replace function fold_terms() returns void language plpgsql set work_mem = '64MB' as $$
declare
  v_space text := current_setting('lamina.space');
  v_unheld integer[];
begin
  perform lock_search();
  with pending as (
    delete from chunk_term_pending p where p.space_id = v_space returning p.terms, p.chunks
  ), added as (
    insert into chunk_term as t (space_id, term, chunks)
    select v_space, h.term, sum(h.chunks) from pending p cross join lateral unnest(p.terms, p.chunks) as h (term, chunks) group by h.term
    on conflict (space_id, term) do update set chunks = t.chunks + excluded.chunks returning t.term, t.chunks
  )
  select array_agg(term) into v_unheld from added where chunks <= 0;
  delete from chunk_term where space_id = v_space and term = any (v_unheld);
end $$;

-- Puts in order what is pending: words of chunks are found from then on.
create or replace function order_terms() returns void language plpgsql as $$
begin
  perform fold_terms();
  perform clean_terms();
end $$;

-- Whether a context is still as an indexer has read it. Asked of one after another, by the primary key alone: who joins them to
-- contexts, or names a state, leaves it to the planner to read all contexts of the space, which it does without statistics.
create or replace function is_head_still(p_id text, p_version integer, p_updated_ms bigint) returns boolean language sql stable as $$
  select coalesce((
    select c.state = 'live' and c.version = p_version and to_ms(c.updated_at) = p_updated_ms
    from context c where c.space_id = current_setting('lamina.space') and c.id = p_id), false);
$$;

-- Takes chunks in, those already there as they are: p_chunks has {id, version, updatedMs, key, header, text, lexemes, terms,
-- words} each. They are found once put_documents names them (by words, see below). What is of no head by now is left out: what an indexer has read
-- may have been replaced, erased or even begun anew by the time it is stored. p_embedder is the one
-- whose vectors follow in the same transaction, null where they are still to come. Of all p_count of them, p_held chunks have
-- the p_terms each: whoever sends them has counted already; where not all are new, or nothing was counted, it is done here.
-- The counts are added by fold_terms, after the last lot: by words the chunks are found from then on.
drop function if exists put_chunks(json, text);
create or replace function put_chunks(
  p_chunks json, p_embedder text, p_count integer default null, p_terms integer[] default null, p_held integer[] default null
) returns void language plpgsql set work_mem = '64MB' as $$
declare
  v_space text := current_setting('lamina.space');
  v_made record;
  v_terms integer[] := p_terms;
  v_held integer[] := p_held;
begin
  perform lock_search();
  with made as (
    insert into chunk (space_id, context_id, key, header, text, lexemes, terms, words)
    select v_space, s.id, s.key, s.header, s.text, s.lexemes, s.terms, s.words
    from json_to_recordset(p_chunks) as s (id text, version integer, "updatedMs" bigint, key uuid, header text, text text,
      lexemes tsvector, terms integer[], words integer)
    where is_head_still(s.id, s.version, s."updatedMs")
    on conflict do nothing returning context_id, key, words
  )
  select count(*) as chunks, coalesce(sum(words), 0) as words, array_agg(context_id) as ids, array_agg(key) as keys into v_made from made;
  if v_made.chunks is distinct from p_count then
    select array_agg(h.term), array_agg(h.chunks) into v_terms, v_held from (
      select term, count(*)::integer as chunks from unnest(v_made.ids, v_made.keys) as m (id, key)
      join chunk c on c.space_id = v_space and c.context_id = m.id and c.key = m.key cross join unnest(c.terms) term group by term) h;
  end if;
  if v_terms <> '{}' then
    insert into chunk_term_pending (space_id, terms, chunks) values (v_space, v_terms, v_held);
  end if;
  update search_state s set chunks = s.chunks + v_made.chunks, words = s.words + v_made.words,
    vectors_of = case when s.chunks = 0 or s.vectors_of = p_embedder then p_embedder end
  where s.space_id = v_space;
end $$;

-- Stores vectors of chunks that are there: p_vectors has {id, key, vector} each, of any length, and they are stored with
-- length 1; null says that there is none.
create or replace function put_vectors(p_vectors json, p_embedder text) returns void language plpgsql as $$
begin
  if to_regclass('chunk_vector') is null then return; end if;
  perform lock_search();
  execute format($query$
    insert into chunk_vector (space_id, embedder, context_id, key, embedding)
    select current_setting('lamina.space'), $2, v.id, v.key, %s from json_to_recordset($1) as v (id text, key uuid, vector text)
    where exists (select from chunk h where h.space_id = current_setting('lamina.space') and h.context_id = v.id and h.key = v.key offset 0)
    on conflict do nothing
  $query$, case when to_regprocedure('l2_normalize(vector)') is not null then 'l2_normalize(v.vector::vector)'
    -- Before pgvector 0.7.
    else '(select array_agg(x / length order by n)::vector from (
      select x, n, sqrt(sum(x * x) over ()) as length from unnest(v.vector::vector::real[]::double precision[]) with ordinality u (x, n)) u)' end)
  using p_vectors, p_embedder;
end $$;

-- The chunks that there are of contexts, and those that their documents name. Looked up one by one, see is_head_still.
create or replace function held_chunks(p_ids text[]) returns table (id text, key uuid) language sql stable as $$
  select p.id, h.key from unnest(p_ids) p (id) cross join lateral (
    select h.key from chunk h where h.space_id = current_setting('lamina.space') and h.context_id = p.id offset 0) h;
$$;

create or replace function named_chunks(p_ids text[]) returns table (id text, key uuid) language sql stable as $$
  select p.id, unnest(d.keys) from unnest(p_ids) p (id) cross join lateral (
    select d.keys from search_document d where d.space_id = current_setting('lamina.space') and d.id = p.id offset 0) d;
$$;

-- Says of which chunks contexts are made, and lets go of the others: p_documents has {id, version, updatedMs, isTranscript,
-- keys, starts, ends} each. What is of no head by now is left as it is; the feed tells of what came after it. Fails as a
-- lost race does where another indexer has swept a chunk meanwhile.
create or replace function put_documents(p_documents json) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_taken text[];
  v_missing bigint;
  v_unnamed bigint;
begin
  perform lock_search();
  with sent as (
    select s.* from json_to_recordset(p_documents) as s (id text, version integer, "updatedMs" bigint, "isTranscript" boolean,
      keys uuid[], starts integer[], ends integer[])
    where is_head_still(s.id, s.version, s."updatedMs")
  ), taken as (
    insert into search_document as d (space_id, id, version, written_at, is_transcript, keys, starts, ends)
    select v_space, s.id, s.version, to_timestamp(s."updatedMs"::double precision / 1000), s."isTranscript", s.keys, s.starts, s.ends from sent s
    on conflict (space_id, id) do update set version = excluded.version, written_at = excluded.written_at,
      is_transcript = excluded.is_transcript, keys = excluded.keys, starts = excluded.starts, ends = excluded.ends
    returning d.id
  )
  select array_agg(id) into v_taken from taken;
  select count(*) filter (where c.key is null), count(*) filter (where n.key is null) into v_missing, v_unnamed
  from named_chunks(v_taken) n full join held_chunks(v_taken) c on c.id = n.id and c.key = n.key;
  if v_missing > 0 then
    raise exception 'a chunk was swept meanwhile' using errcode = 'serialization_failure';
  end if;
  if v_unnamed > 0 then
    perform sweep_chunks(v_taken);
  end if;
end $$;

-- Lets go of all that is indexed of contexts that are not live. Answers with how many chunks that were.
create or replace function drop_documents(p_ids text[]) returns integer language plpgsql as $$
declare
  v_dead text[];
begin
  perform lock_search();
  select array_agg(p.id) into v_dead from unnest(p_ids) p (id) where not exists (
    select from context c where c.space_id = current_setting('lamina.space') and c.id = p.id and c.state = 'live'
      and (c.expires_at is null or c.expires_at > clock_timestamp()));
  delete from search_document where space_id = current_setting('lamina.space') and id = any (v_dead);
  return sweep_chunks(v_dead);
end $$;

-- Begins a rebuild, or goes on with the one under way unless the feed has forgotten what came since that began; answers with
-- the clock when it began. Whoever rebuilds also makes all vectors that another engine holds, and whoever wants to.
create or replace function begin_rebuild() returns bigint language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  perform lock_search();
  update search_state s set rebuilt_to = '', rebuilt_from = p.clock, owner = null, vectors_of = null
  from space p where p.id = v_space and s.space_id = v_space and (s.rebuilt_to is null or s.rebuilt_from < p.feed_floor);
  if found then update vector_entry set held_of = null where space_id = v_space and held_of is not null; end if;
  return (select rebuilt_from from search_state where space_id = v_space);
end $$;

-- Writes that the index has not seen yet. Where the feed has forgotten some of them, contexts are counted that are not
-- indexed as they stand.
create or replace function pending_writes() returns bigint language plpgsql stable as $$
declare
  v_space text := current_setting('lamina.space');
  v_cursor bigint := coalesce((select cursor from follower where space_id = v_space and name = 'search'), 0);
  v_waiting bigint;
begin
  select count(*) into v_waiting from change where space_id = v_space and kind = 'context' and tick > v_cursor;
  if v_cursor >= (select feed_floor from space where id = v_space) then return v_waiting; end if;
  return greatest(v_waiting, (
    select count(*) from context c where c.space_id = v_space and c.state = 'live'
      and (c.expires_at is null or c.expires_at > statement_timestamp())
      and not exists (select from search_document d where d.space_id = v_space and d.id = c.id and d.version = c.version
        and d.written_at = c.updated_at)));
end $$;

-- Removes the chunks of contexts that their documents do not name.
create or replace function sweep_chunks(p_ids text[]) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_count integer;
begin
  with gone as (
    delete from chunk c using (select * from held_chunks(p_ids) except select * from named_chunks(p_ids)) u
    where c.space_id = v_space and c.context_id = u.id and c.key = u.key
    returning c.terms, c.words
  ), counted as (
    insert into chunk_term_pending (space_id, terms, chunks)
    select v_space, array_agg(g.term), array_agg(-g.chunks) from (
      select term, count(*)::integer as chunks from gone cross join unnest(terms) term group by term) g
    having count(*) > 0
  ), total as (
    update search_state s set chunks = s.chunks - g.chunks, words = s.words - g.words
    from (select count(*) as chunks, coalesce(sum(words), 0) as words from gone) g where s.space_id = v_space
  )
  select count(*) into v_count from gone;
  if v_count > 0 then
    perform fold_terms();
    update search_state set has_garbage = true where space_id = v_space and not has_garbage and exists (
      select from vector_entry v where v.space_id = v_space and v.context_id = any (p_ids)
        and not exists (select from chunk c where c.space_id = v_space and c.context_id = v.context_id and c.key = v.key));
    if to_regclass('chunk_vector') is not null then
      delete from chunk_vector v where v.space_id = v_space and v.context_id = any (p_ids)
        and not exists (select from chunk c where c.space_id = v_space and c.context_id = v.context_id and c.key = v.key);
    end if;
  end if;
  return v_count;
end $$;

-- How many of a leg's best are put in order, again and again until enough of them count; null is all. To put more in order takes
-- longer, and it is seldom that some of the best are dead; but of a context only p_each count.
create or replace function leg_depths(p_count integer, p_each integer) returns integer[] language sql immutable as $$
  select case when p_each is null then array[p_count * 5 / 4] else '{}' end || array[4 * p_count, null];
$$;

-- The chunks that hold any of the lexemes, the best p_count by BM25, best first, at most p_each of a context where that
-- is not null; expects the lexemes rarest first, and takes as candidates what holds one of the first p_selecting, or all
-- terms of p_needed where there are any. A rank of a single lexeme, whose weight is 0.1, is 0.1 * H2(tf) / (pi^2 / 6), H2 a
-- generalised harmonic number, so tf is 1 / (pi^2 / 6 - H2) - 1 / 2 within 5 per cent: PostgreSQL counts positions in C there,
-- where unnesting the tsvector would make a row of each word. Only live ones, where p_is_checked.
create or replace function match_words(
  p_lexemes text[], p_terms integer[], p_idfs double precision[], p_selecting integer, p_needed integer[], p_average double precision,
  p_k1 double precision, p_b double precision, p_must text, p_must_not text, p_ids text[], p_count integer, p_each integer, p_is_checked boolean
) returns table (context_id text, key uuid, score double precision)
language plpgsql stable security definer set search_path = public, pg_temp set enable_seqscan = off as $$
declare
  v_ranks text;
  v_sum text;
  v_found record;
  v_depth integer;
begin
  if coalesce(array_length(p_terms, 1), 0) = 0 then return; end if;
  select string_agg(format('ts_rank(lexemes, %L::tsquery) as r%s', quote_literal(l), i), ', ') into v_ranks
    from unnest(p_lexemes) with ordinality as t (l, i);
  select string_agg(format('case when r%1$s > 0 then %2$s::double precision * (1 - n / (1 / (1.6449341 * (1 - 10 * r%1$s)) - 0.5 + n)) else 0 end', i, idf * (p_k1 + 1)), ' + ')
    into v_sum from unnest(p_idfs) with ordinality as t (idf, i);
  -- Whether a context is alive is asked of the best alone, one after another, until there are enough; more are put in order
  -- only where too few of the best are alive. A term is of one space, whose primary key would be one index more to look through.
  foreach v_depth in array leg_depths(p_count, p_each) loop
    execute format($query$
      with best as materialized (
        select context_id, key, score from (
          select context_id, key, %s as score from (
            select context_id, key, $2 * (1 - $3 + $3 * words / greatest($4, 1)) as n, %s from chunk
            where space_id %s current_setting('lamina.space') and terms %s $1 %s %s %s
            limit 50000
          ) counted
        ) scored order by score desc, context_id, key limit $10
      )
      select array_agg(context_id) as ids, array_agg(key) as keys, array_agg(score) as scores, (select count(*) from best) = $10 as is_cut from (
        select context_id, key, score from %s ranked where score > 0 and %s %s limit $8
      ) living
    $query$,
      v_sum, v_ranks,
      case when p_ids is null then 'is not distinct from' else '=' end,
      case when p_needed = '{}' then '&&' else '@>' end,
      case when p_ids is not null then 'and context_id = any ($5)' end,
      case when p_must is not null then 'and lexemes @@ $6::tsquery' end,
      case when p_must_not is not null then 'and not lexemes @@ $7::tsquery' end,
      case when p_each is null then 'best' else
        '(select *, row_number() over (partition by context_id order by score desc, key) as nth from best order by score desc, context_id, key)' end,
      case when p_each is not null then 'nth <= $9 and' end, readable_condition('ranked.context_id', p_is_checked))
    into v_found
    using case when p_needed = '{}' then p_terms[1:p_selecting] else p_needed end, p_k1, p_b, p_average, p_ids, p_must, p_must_not, p_count, p_each, v_depth;
    exit when not v_found.is_cut or cardinality(v_found.ids) >= p_count;
  end loop;
  return query select * from unnest(v_found.ids, v_found.keys, v_found.scores);
end $$;

-- The chunks whose vectors of an embedder are most like one, the best p_count, best first, at most p_each of a context
-- where that is not null; of those that none of the embedders in p_before has a vector of. From p_hnsw chunks of the space on
-- and without any condition, an approximate index finds them, where there is one. Only live ones, where p_is_checked.
create or replace function match_vectors(
  p_embedder text, p_vector text, p_before text[], p_must text, p_must_not text, p_ids text[], p_count integer, p_each integer, p_is_checked boolean, p_hnsw bigint
) returns table (context_id text, key uuid, score double precision) language plpgsql stable as $$
declare
  v_type text;
  v_ids text[];
  v_keys uuid[];
  v_scores double precision[];
  v_is_cut boolean;
  v_depth integer;
begin
  if p_before = '{}' and p_must is null and p_must_not is null and p_ids is null and p_each is null then
    select obj_description(to_regclass(vector_index(p_embedder)), 'pg_class') into v_type
      from search_state s where s.space_id = current_setting('lamina.space') and s.chunks >= p_hnsw;
  end if;
  if v_type is not null then
    -- Without a sort the index is the only way, whatever the planner knows of it.
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '400', true), set_config('enable_sort', 'off', true);
    -- It looks on in the index until there are enough of the living. A crowd of equal vectors may shut it in: what it finds too
    -- few of, comparing each finds.
    execute format($query$
      select array_agg(context_id order by distance), array_agg(key order by distance), array_agg(-distance order by distance) from (
        select * from (
          select v.context_id, v.key, (v.embedding::%3$s <#> %1$L::%3$s) as distance from chunk_vector v
          where v.space_id = current_setting('lamina.space') and v.embedder = %2$L
          order by v.embedding::%3$s <#> %1$L::%3$s offset 0
        ) nearest where %4$s limit 3 * $1
      ) living
    $query$, p_vector, p_embedder, v_type, readable_condition('nearest.context_id', p_is_checked)) into v_ids, v_keys, v_scores using p_count;
    perform set_config('enable_sort', 'on', true);
    if array_length(v_ids, 1) >= p_count then
      return query select * from unnest(v_ids[1:p_count], v_keys[1:p_count], v_scores[1:p_count]);
      return;
    end if;
  end if;
  foreach v_depth in array leg_depths(p_count, p_each) loop
    execute format($query$
      with best as materialized (
        -- What is passed by value is put in order sooner, and it is computed with no more digits.
        select v.context_id, v.key, (v.embedding <#> %1$L::vector)::real as distance from chunk_vector v
        where v.space_id = current_setting('lamina.space') and v.embedder = %2$L and v.embedding is not null %3$s %4$s %5$s
        order by distance limit $7
      )
      select array_agg(context_id), array_agg(key), array_agg(-distance), (select count(*) from best) = $7 from (
        select context_id, key, distance from %6$s ranked where %7$s %8$s limit $5
      ) living
    $query$, p_vector, p_embedder,
      case when p_ids is not null then 'and v.context_id = any ($1)' end,
      case when p_before <> '{}' then 'and not exists (select from chunk_vector o where o.space_id = v.space_id
        and o.embedder = any ($2) and o.context_id = v.context_id and o.key = v.key)' end,
      case when p_must is not null or p_must_not is not null then 'and (
        select ($3 is null or h.lexemes @@ $3::tsquery) and ($4 is null or not h.lexemes @@ $4::tsquery) from chunk h
        where h.space_id = v.space_id and h.context_id = v.context_id and h.key = v.key)' end,
      case when p_each is null then 'best' else
        '(select *, row_number() over (partition by context_id order by distance) as nth from best order by distance)' end,
      case when p_each is not null then 'nth <= $6 and' end, readable_condition('ranked.context_id', p_is_checked))
    into v_ids, v_keys, v_scores, v_is_cut using p_ids, p_before, p_must, p_must_not, p_count, p_each, v_depth;
    exit when not v_is_cut or cardinality(v_ids) >= p_count;
  end loop;
  return query select * from unnest(v_ids, v_keys, v_scores);
end $$;

-- Functions of before; what called them is above.
drop function if exists is_head(text, integer, bigint);
drop function if exists is_readable(text);
drop function if exists match_words(text[], integer[], double precision[], integer, integer[], double precision, double precision, double precision, text, text, text[], integer, integer);
drop function if exists match_vectors(text, text, text[], text, text, text[], integer, integer, bigint);

-- The best chunks by words and by likeness of vectors, and of those that another engine has found. p_query: {found: [{id,
-- key, score}] | null, terms: [{lexeme, term}] | null, needed: [term], must, mustNot, vectors: [{embedder, vector}], weight,
-- near, far, isByChunk, limit, enough, k1, b, candidates}; p_ids bounds the contexts, null does not. Each leg is cut to a
-- hundred live chunks, or twice the limit, and normalised, words by their best, likeness between its best and its worst;
-- weighted, they are added. Turns of a transcript take part in the scores of those around them. Of a
-- context that is indexed of an older version three chunks are told, for one of them to be there still; what comes after
-- `enough` of others is left out. Its plans are kept by the session: to make them takes longer than to carry them out.
create or replace function search_chunks(p_query jsonb, p_ids text[]) returns table (
  context_id text, key uuid, score double precision, version integer, ordinal integer, start_byte integer, end_byte integer, header text, text text
) language plpgsql stable rows 30 set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_space text := current_setting('lamina.space');
  v_must text := p_query ->> 'must';
  v_must_not text := p_query ->> 'mustNot';
  v_needed integer[] := array(select t::integer from jsonb_array_elements_text(p_query -> 'needed') t);
  v_vectors jsonb := case when to_regclass('chunk_vector') is null then '[]' else p_query -> 'vectors' end;
  v_weight double precision := (p_query ->> 'weight')::double precision;
  v_limit integer := (p_query ->> 'limit')::integer;
  v_enough integer := coalesce((p_query ->> 'enough')::integer, v_limit);
  v_near double precision := (p_query ->> 'near')::double precision;
  v_far double precision := (p_query ->> 'far')::double precision;
  v_by_chunk boolean := (p_query ->> 'isByChunk')::boolean;
  v_count integer := greatest(100, 2 * v_limit);
  v_each integer;
  v_cursor bigint := coalesce((select cursor from follower where space_id = v_space and name = 'search'), 0);
  -- Whether the index may hold what is dead: it has not seen all, nor can it have, or something has expired since.
  v_is_checked boolean := v_cursor < (select feed_floor from space where id = v_space)
    or exists (select from change where space_id = v_space and kind = 'context' and tick > v_cursor)
    or exists (select from search_state where space_id = v_space and rebuilt_to is not null)
    or exists (select from context where space_id = v_space and state = 'live' and expires_at <= statement_timestamp());
  v_asked record;
  v_leg record;
  v_before text[] := '{}';
  v_ids text[] := '{}';
  v_keys uuid[] := '{}';
  v_scores double precision[] := '{}';
begin
  if p_query -> 'found' <> 'null' then
    select coalesce(array_agg(f.id), '{}'), coalesce(array_agg(f.key), '{}'), coalesce(array_agg(f.score), '{}')
    into v_ids, v_keys, v_scores from jsonb_to_recordset(p_query -> 'found') as f (id text, key uuid, score double precision)
    where (p_ids is null or f.id = any (p_ids)) and (
      select c.state = 'live' and (c.expires_at is null or c.expires_at > statement_timestamp())
      from context c where c.space_id = v_space and c.id = f.id);
  end if;

  if p_query ->> 'terms' is not null then
    -- The rarest words choose who is scored, until that are many; with a filter or a phrase, which choose already, all do.
    select array_agg(a.lexeme order by a.chunks, a.lexeme) as lexemes, array_agg(a.term order by a.chunks, a.lexeme) as terms,
      array_agg(a.idf order by a.chunks, a.lexeme) as idfs, max(a.average) as average,
      greatest(1, count(*) filter (where p_ids is not null or a.running <= (p_query ->> 'candidates')::integer))::integer as selecting
    into v_asked from (
      select t.lexeme, t.term, k.chunks, sum(k.chunks) over (order by k.chunks, t.lexeme) as running,
        ln(1 + greatest(n.chunks - k.chunks + 0.5, 0.5) / (k.chunks + 0.5)) as idf, n.words::double precision / greatest(n.chunks, 1) as average
      from search_state n cross join jsonb_to_recordset(p_query -> 'terms') as t (lexeme text, term integer)
      cross join lateral (select c.chunks from chunk_term c where c.space_id = v_space and c.term = t.term offset 0) k
      where n.space_id = v_space order by k.chunks, t.lexeme limit 16
    ) a;
    v_each := null;
    loop
      select coalesce(array_agg(m.context_id), '{}') as ids, coalesce(array_agg(m.key), '{}') as keys,
        coalesce(array_agg(case jsonb_array_length(v_vectors) when 0 then 1 else 1 - v_weight end * m.score / m.best), '{}') as scores,
        count(*) = v_count and count(distinct m.context_id) < v_limit and not v_by_chunk as is_crowded
      into v_leg from (
        select m.*, max(m.score) over () as best
        from match_words(v_asked.lexemes, v_asked.terms, v_asked.idfs, v_asked.selecting, v_needed, v_asked.average,
          (p_query ->> 'k1')::double precision, (p_query ->> 'b')::double precision, v_must, v_must_not, p_ids, v_count, v_each, v_is_checked) m
      ) m;
      exit when v_each is not null or not v_leg.is_crowded;
      -- A few contexts have taken all places.
      v_each := 3;
    end loop;
    v_ids := v_ids || v_leg.ids;
    v_keys := v_keys || v_leg.keys;
    v_scores := v_scores || v_leg.scores;
  end if;

  for v_asked in select v ->> 'embedder' as embedder, v ->> 'vector' as vector from jsonb_array_elements(v_vectors) v loop
    v_each := null;
    loop
      select coalesce(array_agg(m.context_id), '{}') as ids, coalesce(array_agg(m.key), '{}') as keys,
        coalesce(array_agg(case when p_query ->> 'terms' is null then 1 else v_weight end * (m.score - m.worst + 1e-9) / (m.best - m.worst + 1e-9)), '{}') as scores,
        count(*) = v_count and count(distinct m.context_id) < v_limit and not v_by_chunk as is_crowded
      into v_leg from (
        select m.*, max(m.score) over () as best, min(m.score) over () as worst
        from match_vectors(v_asked.embedder, v_asked.vector, v_before, v_must, v_must_not, p_ids, v_count, v_each, v_is_checked, (p_query ->> 'hnsw')::bigint) m
      ) m;
      exit when v_each is not null or not v_leg.is_crowded;
      v_each := 3;
    end loop;
    v_ids := v_ids || v_leg.ids;
    v_keys := v_keys || v_leg.keys;
    v_scores := v_scores || v_leg.scores;
    v_before := v_before || v_asked.embedder;
  end loop;

  return query
  with fused as materialized (
    select f.context_id, f.key, sum(f.score) as score
    from unnest(v_ids, v_keys, v_scores) as f (context_id, key, score) group by f.context_id, f.key
  ), transcripts as materialized (
    select d.id, d.keys from search_document d where d.space_id = v_space and d.is_transcript and d.id = any (v_ids)
  ), placed as (
    select p.context_id, p.key, sum(p.score) as score, count(*) over (partition by p.context_id) as rivals from (
      select f.* from fused f
      union all
      select t.id, t.keys[a.place + n.distance], f.score * n.weight
      from transcripts t join fused f on f.context_id = t.id cross join lateral (select array_position(t.keys, f.key) as place) a
      cross join (values (-1, v_near), (1, v_near), (-2, v_far), (2, v_far)) as n (distance, weight)
      where a.place + n.distance between 1 and cardinality(t.keys)
    ) p group by p.context_id, p.key
  ), ranked as (
    -- One that is alone in its context is looked up only if it gets that far.
    select p.context_id, p.key, p.score, d.place, row_number() over (partition by p.context_id order by p.score desc, d.place) as nth
    from placed p left join lateral (
      select array_position(d.keys, p.key) as place from search_document d
      where p.rivals > 1 and d.space_id = v_space and d.id = p.context_id offset 0) d on true
    where p.score > 0 and (p.rivals = 1 or d.place is not null) and ((v_must is null and v_must_not is null) or (
      select (v_must is null or h.lexemes @@ v_must::tsquery) and (v_must_not is null or not h.lexemes @@ v_must_not::tsquery)
      from chunk h where h.space_id = v_space and h.context_id = p.context_id and h.key = p.key))
  ), best as (
    -- In order before they are looked up, which goes on only until there are enough.
    select r.context_id, r.key, r.score, d.*, count(*) filter (where not d.is_behind) over (
      order by r.score desc, r.context_id, r.place rows between unbounded preceding and 1 preceding) as sure
    from (select r.* from ranked r where v_by_chunk or r.nth <= 3 order by r.score desc, r.context_id, r.place) r
    cross join lateral (
      select d.version, a.place as ordinal, d.starts[a.place] as start_byte, d.ends[a.place] as end_byte,
        d.version <> c.version or d.written_at is distinct from c.updated_at as is_behind,
        c.state = 'live' and (c.expires_at is null or c.expires_at > statement_timestamp()) as is_readable
      from search_document d join context c on c.space_id = d.space_id and c.id = d.id
      cross join lateral (select array_position(d.keys, r.key) as place) a
      where d.space_id = v_space and d.id = r.context_id and a.place is not null offset 0) d
    where d.is_readable and (v_by_chunk or r.nth = 1 or d.is_behind)
    order by r.score desc, r.context_id, r.place limit v_limit
  )
  select b.context_id, b.key, b.score, b.version, b.ordinal - 1, b.start_byte, b.end_byte, h.header, h.text
  from best b cross join lateral (
    select h.header, h.text from chunk h where h.space_id = v_space and h.context_id = b.context_id and h.key = b.key offset 0) h
  where b.sure < v_enough
  order by b.score desc, b.context_id, b.ordinal;
end $$;

-- What a search is answered with, see FoundPage in lib/search/find.sql.ts: the best chunks with the heads of their contexts, and
-- the state of the index in the same snapshot. The plan is kept, as that of search_chunks is.
create or replace function find_chunks(p_query jsonb, p_ids text[]) returns table (
  has_vectors boolean, pending bigint, vectors_of text, has_chunks boolean, expires_ms bigint, found text
) language plpgsql stable rows 1 set plan_cache_mode = force_generic_plan as $$
declare
  v_space text := current_setting('lamina.space');
begin
  return query
  select to_regclass('chunk_vector') is not null, pending_writes(), i.vectors_of, coalesce(i.chunks, 0) > 0,
    to_ms((
      select min(e.expires_at) from context e
      where e.space_id = v_space and e.state = 'live' and e.expires_at > statement_timestamp())),
    (
      select jsonb_agg(jsonb_build_object('head', to_head(c), 'key', b.key, 'score', b.score, 'text', b.text,
        'ordinal', b.ordinal, 'start', b.start_byte, 'end', b.end_byte,
        'isBehind', d.version <> c.version or d.written_at is distinct from c.updated_at) order by b.score desc, c.id, b.ordinal)
      from search_chunks(p_query, p_ids) b
      -- Looked up one by one: they are few, which the planner does not know.
      cross join lateral (select d.* from search_document d where d.space_id = v_space and d.id = b.context_id offset 0) d
      cross join lateral (select c.* from context c where c.space_id = v_space and c.id = b.context_id offset 0) c)::text
  from (values (1)) one left join search_state i on i.space_id = v_space;
end $$;

-- What the search index of the space holds: chunks, writes that it has not seen, and how many chunks each embedder has made
-- vectors of, in PostgreSQL (`pgvector`) or in the engine named, as far as that has confirmed them.
create or replace function search_statistics(p_engine text) returns jsonb language plpgsql stable as $$
declare
  v_space text := current_setting('lamina.space');
  v_vectors jsonb;
begin
  if p_engine <> 'pgvector' then
    -- See engineLabel: engine, identity, embedder.
    select jsonb_object_agg(h.embedder, h.chunks) into v_vectors from (
      select substr(held_of, length(p_engine) + 2 + strpos(substr(held_of, length(p_engine) + 2), '/')) as embedder, count(*) as chunks
      from vector_entry where space_id = v_space and starts_with(held_of, p_engine || '/') group by 1) h;
  elsif to_regclass('chunk_vector') is not null then
    select jsonb_object_agg(v.embedder, v.chunks) into v_vectors from (
      select embedder, count(*) as chunks from chunk_vector where space_id = v_space group by embedder) v;
  end if;
  return jsonb_build_object(
    'chunks', coalesce((select chunks from search_state where space_id = v_space), 0),
    'pending', pending_writes(), 'vectors', coalesce(v_vectors, '{}'));
end $$;
