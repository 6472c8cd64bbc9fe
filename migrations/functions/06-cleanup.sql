-- What cleanup removes: each function one bounded batch of one kind, in a transaction of its own. It takes rows that are
-- free and leaves the others for its next run, so it never waits and nobody waits long for it. Answers say how many rows
-- were looked at and how many things were removed.

create or replace function purge_tombstones(p_days double precision, p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_id text;
  v_hashes bytea[];
  v_count integer := 0;
begin
  for v_id in
    select id from context where space_id = v_space and state = 'deleted'
      and updated_at < clock_timestamp() - make_interval(secs => p_days * 86400)
      -- A peer that has not passed it yet would take the context for one of its own.
      and not exists (select from follower f join change h on h.space_id = v_space and h.id = context.id and h.tick > f.cursor
        where f.space_id = v_space and f.name like 'peer:%')
      order by updated_at limit p_limit for update skip locked
  loop
    delete from context where space_id = v_space and id = v_id;
    with deleted as (
      delete from context_version where space_id = v_space and id = v_id returning hash
    ) select array_agg(hash) into v_hashes from deleted;
    perform note_garbage(v_hashes);
    v_count := v_count + 1;
  end loop;
  return v_count;
end $$;

-- Trims histories that a smaller setting has made too long, a thousand versions of each at a time.
create or replace function trim_versions(p_retained integer, p_days double precision, p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_head context;
  v_hashes bytea[];
  v_deleted integer;
  v_count integer := 0;
begin
  for v_head in
    select * from context c where c.space_id = v_space and c.kept_versions > p_retained and (p_days is null or exists (
      select from context_version v where v.space_id = v_space and v.id = c.id and v.version < c.version and not v.pinned
        and v.created_at < clock_timestamp() - make_interval(secs => p_days * 86400)))
    limit p_limit for update skip locked
  loop
    with oldest as (
      select version from context_version
      where space_id = v_space and id = v_head.id and version < v_head.version and not pinned
      order by version limit least(v_head.kept_versions - p_retained, 1000)
    ), deleted as (
      delete from context_version v using oldest
      where v.space_id = v_space and v.id = v_head.id and v.version = oldest.version
        and (p_days is null or v.created_at < clock_timestamp() - make_interval(secs => p_days * 86400))
      returning v.hash
    )
    select array_agg(hash), count(*) into v_hashes, v_deleted from deleted;
    update context set kept_versions = kept_versions - v_deleted where space_id = v_space and id = v_head.id;
    perform note_garbage(v_hashes);
    v_count := v_count + v_deleted;
  end loop;
  return v_count;
end $$;

-- Removes contents that no version holds any more. A row that a writer has just locked is about to be held again, or was
-- by a writer who failed: its note stays.
create or replace function collect_garbage(p_limit integer, out looked integer, out removed integer) language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_hash bytea;
  v_is_there boolean;
begin
  looked := 0;
  removed := 0;
  for v_hash in select distinct hash from garbage where space_id = v_space limit p_limit loop
    perform from content where space_id = v_space and hash = v_hash and part = 0 for update skip locked;
    if found then
      delete from content where space_id = v_space and hash = v_hash
        and not is_content_held(v_hash);
      if found then removed := removed + 1; end if;
    else
      select exists (select from content where space_id = v_space and hash = v_hash) into v_is_there;
      continue when v_is_there;
    end if;
    delete from garbage where space_id = v_space and hash = v_hash;
    looked := looked + 1;
  end loop;
end $$;

create or replace function forget_keys(p_limit integer) returns integer language sql as $$
  with deleted as (
    delete from idempotency where space_id = current_setting('lamina.space') and key in (
      select key from idempotency where space_id = current_setting('lamina.space')
        and created_at < clock_timestamp() - interval '24 hours' limit p_limit for update skip locked)
    returning 1
  ) select count(*)::integer from deleted;
$$;

-- The feed never loses what a follower has not taken yet; the search index can be made anew from the contexts.
create or replace function prune_feed(p_days double precision, p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_floor bigint;
  v_count integer;
begin
  select max(tick) into v_floor from (
    select tick, at from change where space_id = v_space order by tick limit p_limit
  ) oldest where at < clock_timestamp() - make_interval(secs => p_days * 86400)
    and tick <= (select coalesce(min(cursor), 9223372036854775807) from follower where space_id = v_space and name <> 'search');
  if v_floor is null then return 0; end if;
  delete from change where space_id = v_space and tick <= v_floor;
  get diagnostics v_count = row_count;
  update space set feed_floor = greatest(feed_floor, v_floor) where id = v_space;
  return v_count;
end $$;
