-- Locks, taken in this order everywhere: tree, idempotency key, birth, contexts, uploads, contents, the space's clock.
-- Who takes several contexts takes them in the order of their ids, all of them before it touches a content. Cleanup takes what is free and leaves the rest for its next run.

create or replace function lock_tree() returns void language sql as $$
  select pg_advisory_xact_lock(hashtextextended('tree ' || current_setting('lamina.space'), 0));
$$;

-- Has all who would make a context of this space wait until commit, so that whoever makes many needs no lock for each id,
-- and locks what there is by lock_known: PostgreSQL has room for some thousands of locks together.
create or replace function lock_births() returns void language sql as $$
  select pg_advisory_xact_lock(hashtextextended('birth ' || current_setting('lamina.space'), 0));
$$;

create or replace function lock_known(p_id text) returns context language sql as $$
  select c from context c where c.space_id = current_setting('lamina.space') and c.id = p_id for update;
$$;

-- The head, locked until commit. Where there is no row yet, the id itself is locked, so that one creates and the others
-- find what it made.
create or replace function lock_head(p_id text) returns context language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_head context;
begin
  select * into v_head from context where space_id = v_space and id = p_id for update;
  if not found then
    perform pg_advisory_xact_lock_shared(hashtextextended('birth ' || v_space, 0));
    perform pg_advisory_xact_lock(hashtextextended('context ' || v_space || ' ' || p_id, 0));
    select * into v_head from context where space_id = v_space and id = p_id for update;
  end if;
  return v_head;
end $$;

-- Keeps a content's parts until commit and beyond, whether they are new or there already: a row that is referred to
-- from now on is locked against collect_garbage, which may just have taken it away. p_content: {parts, encoding, first} of
-- p_parts, or {parts, upload}, whose bytes then never leave the database.
create or replace function keep_content(p_hash bytea, p_content jsonb, p_parts text[]) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_parts integer := (p_content ->> 'parts')::integer;
  v_own text[] := '{}';
  v_inserted integer;
begin
  -- Taken out one by one, since a query copies the whole array it is given.
  if not p_content ? 'upload' then
    for v_part in 0 .. v_parts - 1 loop v_own := array_append(v_own, p_parts[(p_content ->> 'first')::integer + v_part]); end loop;
  end if;
  loop
    if p_content ? 'upload' then
      insert into content (space_id, hash, part, encoding, bytes)
      select v_space, p_hash, part - 1, encoding, bytes from upload_part
      where space_id = v_space and upload_id = p_content ->> 'upload'
      on conflict do nothing;
    else
      insert into content (space_id, hash, part, encoding, bytes)
      select v_space, p_hash, p - 1, p_content ->> 'encoding', decode(part, 'base64')
      from unnest(v_own) with ordinality as own (part, p)
      on conflict do nothing;
    end if;
    get diagnostics v_inserted = row_count;
    exit when v_inserted = v_parts;
    perform from content where space_id = v_space and hash = p_hash and part = 0 for key share;
    exit when found;
  end loop;
end $$;

-- Notes contents that may have lost their last version; collect_garbage looks later.
create or replace function note_garbage(p_hashes bytea[]) returns void language sql as $$
  insert into garbage (space_id, hash)
  select distinct current_setting('lamina.space'), hash from unnest(p_hashes) hash where hash is not null;
$$;
