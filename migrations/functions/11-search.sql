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
    space_id text collate "C" not null references space (id),
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

create or replace function lock_search() returns void language plpgsql as $$
begin
  insert into search_state (space_id) values (current_setting('lamina.space')) on conflict do nothing;
  perform from search_state where space_id = current_setting('lamina.space') for update;
end $$;

-- Takes chunks in, those already there as they are: p_chunks has {id, key, header, text, lexemes, terms, words} each. They
-- are found once put_documents names them. What belongs to no live context by now is left out. p_embedder is the one whose
-- vectors follow in the same transaction, null where they are still to come.
create or replace function put_chunks(p_chunks json, p_embedder text) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  perform lock_search();
  with sent as (
    select c.* from json_to_recordset(p_chunks) as c (id text, key uuid, header text, text text, lexemes tsvector, terms integer[], words integer)
    where exists (select from context h where h.space_id = v_space and h.id = c.id and h.state = 'live')
  ), made as (
    insert into chunk (space_id, context_id, key, header, text, lexemes, terms, words)
    select v_space, id, key, header, text, lexemes, terms, words from sent on conflict do nothing returning terms, words
  ), counted as (
    insert into chunk_term as t (space_id, term, chunks)
    select v_space, term, count(*) from made cross join unnest(terms) term group by term
    on conflict (space_id, term) do update set chunks = t.chunks + excluded.chunks
  )
  update search_state s set chunks = s.chunks + m.chunks, words = s.words + m.words,
    vectors_of = case when s.chunks = 0 or s.vectors_of = p_embedder then p_embedder end
  from (select count(*) as chunks, coalesce(sum(words), 0) as words from made) m where s.space_id = v_space;
end $$;

-- Stores vectors of chunks that are there: p_vectors has {id, key, vector} each; null says that there is none.
create or replace function put_vectors(p_vectors json, p_embedder text) returns void language plpgsql as $$
begin
  if to_regclass('chunk_vector') is null then return; end if;
  insert into chunk_vector (space_id, embedder, context_id, key, embedding)
  select h.space_id, p_embedder, h.context_id, h.key, v.vector::vector
  from json_to_recordset(p_vectors) as v (id text, key uuid, vector text)
  join chunk h on h.space_id = current_setting('lamina.space') and h.context_id = v.id and h.key = v.key
  on conflict do nothing;
end $$;

-- Says of which chunks contexts are made, and lets go of the others: p_documents has {id, version, isTranscript, keys,
-- starts, ends} each.
create or replace function put_documents(p_documents json) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  perform lock_search();
  insert into search_document as d (space_id, id, version, is_transcript, keys, starts, ends)
  select v_space, s.id, s.version, s."isTranscript", s.keys, s.starts, s.ends
  from json_to_recordset(p_documents) as s (id text, version integer, "isTranscript" boolean, keys uuid[], starts integer[], ends integer[])
  where exists (select from context h where h.space_id = v_space and h.id = s.id and h.state = 'live')
  on conflict (space_id, id) do update set version = excluded.version, is_transcript = excluded.is_transcript,
    keys = excluded.keys, starts = excluded.starts, ends = excluded.ends;
  perform sweep_chunks(array(select d ->> 'id' from json_array_elements(p_documents) d));
end $$;

-- Lets go of all that is indexed of contexts. Answers with how many chunks that were.
create or replace function drop_documents(p_ids text[]) returns integer language plpgsql as $$
begin
  perform lock_search();
  delete from search_document where space_id = current_setting('lamina.space') and id = any (p_ids);
  return sweep_chunks(p_ids);
end $$;

-- Removes the chunks of contexts that their documents do not name.
create or replace function sweep_chunks(p_ids text[]) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_count integer;
begin
  with gone as (
    delete from chunk c where c.space_id = v_space and c.context_id = any (p_ids) and not exists (
      select from search_document d cross join unnest(d.keys) k (key)
      where d.space_id = v_space and d.id = any (p_ids) and d.id = c.context_id and k.key = c.key)
    returning c.terms, c.words
  ), counted as (
    update chunk_term t set chunks = t.chunks - g.chunks
    from (select term, count(*) as chunks from gone cross join unnest(terms) term group by term) g
    where t.space_id = v_space and t.term = g.term
  ), total as (
    update search_state s set chunks = s.chunks - g.chunks, words = s.words - g.words
    from (select count(*) as chunks, coalesce(sum(words), 0) as words from gone) g where s.space_id = v_space
  )
  select count(*) into v_count from gone;
  if v_count > 0 then
    delete from chunk_term where space_id = v_space and chunks <= 0;
    if to_regclass('chunk_vector') is not null then
      delete from chunk_vector v where v.space_id = v_space and v.context_id = any (p_ids)
        and not exists (select from chunk c where c.space_id = v_space and c.context_id = v.context_id and c.key = v.key);
    end if;
  end if;
  return v_count;
end $$;

-- The chunks that hold any of the lexemes, the best three hundred by BM25, best first; expects them rarest first, and takes
-- as candidates what holds one of the first p_selecting. A rank of a single lexeme without weights is H2(tf) / (pi^2 / 6),
-- H2 a generalised harmonic number, so tf is 1 / (pi^2 / 6 - H2) - 1 / 2 within 5 per cent: PostgreSQL counts positions in
-- C there, where unnesting the tsvector would make a row of each word.
create or replace function match_words(
  p_lexemes text[], p_terms integer[], p_idfs double precision[], p_selecting integer, p_average double precision,
  p_k1 double precision, p_b double precision, p_must text, p_must_not text, p_ids text[]
) returns table (context_id text, key uuid, score double precision)
language plpgsql stable security definer set search_path = public, pg_temp set enable_seqscan = off as $$
declare
  v_ranks text;
  v_sum text;
begin
  if coalesce(array_length(p_terms, 1), 0) = 0 then return; end if;
  select string_agg(format('ts_rank(''{1,1,1,1}'', lexemes, %L::tsquery) as r%s', quote_literal(l), i), ', ') into v_ranks
    from unnest(p_lexemes) with ordinality as t (l, i);
  select string_agg(format('case when r%1$s > 0 then %2$s::double precision * (1 - n / (1 / (1.6449341 * (1 - r%1$s)) - 0.5 + n)) else 0 end', i, idf * (p_k1 + 1)), ' + ')
    into v_sum from unnest(p_idfs) with ordinality as t (idf, i);
  return query execute format($query$
    select context_id, key, score from (
      select context_id, key, %s as score from (
        select context_id, key, $2 * (1 - $3 + $3 * words / greatest($4, 1)) as n, %s from chunk
        where space_id = current_setting('lamina.space') and terms && $1 %s %s %s
        limit 50000
      ) counted
    ) scored where score > 0 order by score desc, context_id, key limit 300
  $query$, v_sum, v_ranks,
    case when p_ids is not null then 'and context_id = any ($5)' end,
    case when p_must is not null then 'and lexemes @@ $6::tsquery' end,
    case when p_must_not is not null then 'and not lexemes @@ $7::tsquery' end)
  using p_terms[1:p_selecting], p_k1, p_b, p_average, p_ids, p_must, p_must_not;
end $$;

-- The chunks whose vectors of an embedder are most like one, the best three hundred, best first; of those that none of the
-- embedders in p_before has a vector of.
create or replace function match_vectors(
  p_embedder text, p_vector text, p_before text[], p_must text, p_must_not text, p_ids text[]
) returns table (context_id text, key uuid, score double precision) language plpgsql stable as $$
begin
  return query execute format($query$
    select v.context_id, v.key, -(v.embedding <#> %1$L::vector) from chunk_vector v
    where v.space_id = current_setting('lamina.space') and v.embedder = %2$L and v.embedding is not null %3$s %4$s %5$s
    order by v.embedding <#> %1$L::vector limit 300
  $query$, p_vector, p_embedder,
    case when p_ids is not null then 'and v.context_id = any ($1)' end,
    case when p_before <> '{}' then 'and not exists (select from chunk_vector o where o.space_id = v.space_id
      and o.embedder = any ($2) and o.context_id = v.context_id and o.key = v.key)' end,
    case when p_must is not null or p_must_not is not null then 'and (
      select ($3 is null or h.lexemes @@ $3::tsquery) and ($4 is null or not h.lexemes @@ $4::tsquery) from chunk h
      where h.space_id = v.space_id and h.context_id = v.context_id and h.key = v.key)' end)
  using p_ids, p_before, p_must, p_must_not;
end $$;

-- The best chunks by words and by likeness of vectors. p_query: {terms: [{lexeme, term}] | null, must, mustNot, vectors:
-- [{embedder, vector}], weight, isByChunk, limit, k1, b, candidates}; p_ids bounds the contexts, null does not. Each leg is
-- cut to a hundred live chunks and normalised, words by their best, likeness between its best and its worst; weighted, they
-- are added. Turns of a transcript take part in the scores of those around them. Its plans are kept by the session: to make
-- them takes longer than to carry them out.
create or replace function search_chunks(p_query jsonb, p_ids text[]) returns table (
  context_id text, key uuid, score double precision, version integer, ordinal integer, start_byte integer, end_byte integer, header text, text text
) language plpgsql stable set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_space text := current_setting('lamina.space');
  v_must text := p_query ->> 'must';
  v_must_not text := p_query ->> 'mustNot';
  v_vectors jsonb := case when to_regclass('chunk_vector') is null then '[]' else p_query -> 'vectors' end;
  v_weight double precision := (p_query ->> 'weight')::double precision;
  v_asked record;
  v_leg record;
  v_before text[] := '{}';
  v_ids text[] := '{}';
  v_keys uuid[] := '{}';
  v_scores double precision[] := '{}';
begin
  if p_query ->> 'terms' is not null then
    -- The rarest words choose who is scored, until that are many.
    select array_agg(a.lexeme order by a.chunks, a.lexeme) as lexemes, array_agg(a.term order by a.chunks, a.lexeme) as terms,
      array_agg(a.idf order by a.chunks, a.lexeme) as idfs, max(a.average) as average,
      greatest(1, count(*) filter (where a.running <= (p_query ->> 'candidates')::integer))::integer as selecting
    into v_asked from (
      select t.lexeme, t.term, k.chunks, sum(k.chunks) over (order by k.chunks, t.lexeme) as running,
        ln(1 + greatest(n.chunks - k.chunks + 0.5, 0.5) / (k.chunks + 0.5)) as idf, n.words::double precision / greatest(n.chunks, 1) as average
      from search_state n cross join jsonb_to_recordset(p_query -> 'terms') as t (lexeme text, term integer)
      cross join lateral (select c.chunks from chunk_term c where c.space_id = v_space and c.term = t.term offset 0) k
      where n.space_id = v_space order by k.chunks, t.lexeme limit 16
    ) a;
    select coalesce(array_agg(l.context_id), '{}') as ids, coalesce(array_agg(l.key), '{}') as keys,
      coalesce(array_agg(case jsonb_array_length(v_vectors) when 0 then 1 else 1 - v_weight end * l.score / l.best), '{}') as scores
    into v_leg from (
      select m.*, max(m.score) over () as best from (
        select m.* from match_words(v_asked.lexemes, v_asked.terms, v_asked.idfs, v_asked.selecting, v_asked.average,
          (p_query ->> 'k1')::double precision, (p_query ->> 'b')::double precision, v_must, v_must_not, p_ids) m
        -- A scalar, since a join would be answered for all of them, and not for as many as are needed.
        where (select true from context c where c.space_id = v_space and c.id = m.context_id and c.state = 'live'
          and (c.expires_at is null or c.expires_at > statement_timestamp())) limit 100
      ) m
    ) l;
    v_ids := v_leg.ids;
    v_keys := v_leg.keys;
    v_scores := v_leg.scores;
  end if;

  for v_asked in select v ->> 'embedder' as embedder, v ->> 'vector' as vector from jsonb_array_elements(v_vectors) v loop
    select coalesce(array_agg(l.context_id), '{}') as ids, coalesce(array_agg(l.key), '{}') as keys,
      coalesce(array_agg(case when p_query ->> 'terms' is null then 1 else v_weight end * (l.score - l.worst + 1e-9) / (l.best - l.worst + 1e-9)), '{}') as scores
    into v_leg from (
      select m.*, max(m.score) over () as best, min(m.score) over () as worst from (
        select m.* from match_vectors(v_asked.embedder, v_asked.vector, v_before, v_must, v_must_not, p_ids) m
        where (select true from context c where c.space_id = v_space and c.id = m.context_id and c.state = 'live'
          and (c.expires_at is null or c.expires_at > statement_timestamp())) limit 100
      ) m
    ) l;
    v_ids := v_ids || v_leg.ids;
    v_keys := v_keys || v_leg.keys;
    v_scores := v_scores || v_leg.scores;
    v_before := v_before || v_asked.embedder;
  end loop;

  return query
  with fused as materialized (
    select f.context_id, f.key, sum(f.score) as score
    from unnest(v_ids, v_keys, v_scores) as f (context_id, key, score) group by f.context_id, f.key
  ), located as materialized (
    select f.context_id, f.score, d.version, d.is_transcript, array_position(d.keys, f.key) as ordinal, d.keys, d.starts, d.ends
    from fused f cross join lateral (select * from search_document d where d.space_id = v_space and d.id = f.context_id offset 0) d
  ), placed as (
    select l.context_id, l.version, l.ordinal + n.distance as ordinal, l.keys[l.ordinal + n.distance] as key,
      l.starts[l.ordinal + n.distance] as start_byte, l.ends[l.ordinal + n.distance] as end_byte, sum(l.score * n.weight) as score
    from located l cross join (values (0, 1.0), (-1, 0.4), (1, 0.4), (-2, 0.15), (2, 0.15)) as n (distance, weight)
    where n.distance = 0 or l.is_transcript group by 1, 2, 3, 4, 5, 6
  ), ranked as (
    select p.*, row_number() over (partition by p.context_id order by p.score desc, p.ordinal) as nth
    from placed p where p.key is not null and p.score > 0 and ((v_must is null and v_must_not is null) or (
      select (v_must is null or h.lexemes @@ v_must::tsquery) and (v_must_not is null or not h.lexemes @@ v_must_not::tsquery)
      from chunk h where h.space_id = v_space and h.context_id = p.context_id and h.key = p.key))
  ), best as (
    select r.* from ranked r where (p_query ->> 'isByChunk')::boolean or r.nth = 1
    order by r.score desc, r.context_id, r.ordinal limit (p_query ->> 'limit')::integer
  )
  select b.context_id, b.key, b.score, b.version, b.ordinal - 1, b.start_byte, b.end_byte, h.header, h.text
  from best b cross join lateral (
    select h.header, h.text from chunk h where h.space_id = v_space and h.context_id = b.context_id and h.key = b.key offset 0) h
  order by b.score desc, b.context_id, b.ordinal;
end $$;
