-- The first statement of every transaction in a space: takes the role and the space that row-level security binds. Where
-- they are named, it also holds the space against its slot, which no other space of its name ever had, and the caller's key
-- against its revocation, however long ago the door looked at it.
create or replace function enter(p_space text, p_slot text, p_key text) returns void language plpgsql as $$
begin
  -- Our statements are short, and a set-returning function makes the planner think otherwise: to compile one takes 0.2 s.
  perform set_config('role', 'lamina_app', true), set_config('lamina.space', p_space, true), set_config('jit', 'off', true);
  if p_slot is not null and not exists (select from space where id = p_space and id || '@' || to_ms(created_at) = p_slot) then
    raise exception 'the space % is gone', p_space using errcode = 'LM003';
  end if;
  if p_key is not null and not exists (
    select from api_key where space_id = current_setting('lamina.space') and id = p_key and revoked_at is null
      and (expires_at is null or expires_at > clock_timestamp())
  ) then
    raise exception 'the key % is valid no more', p_key using errcode = 'LM004';
  end if;
end $$;

-- The changes after a tick, for a cache that is to learn what it missed; one more than it may be told of, and null where
-- they are no longer kept. Stable, so that it sees the snapshot of the statement it stands in.
create or replace function feed_after(p_space space, p_after bigint, p_limit integer) returns jsonb language sql stable as $$
  select case when p_space.feed_floor > p_after then null else (
    select coalesce(jsonb_agg(to_change_json(row) order by (row).tick), '[]') from (
      select h as row from change h where h.space_id = p_space.id and h.tick > p_after order by h.tick limit p_limit
    ) stretch) end;
$$;

-- The items a change touches: as lib/contexts/items.ts has it, which the tests hold this against.
create or replace function change_items(p_change change) returns text[] language sql immutable as $$
  select case p_change.kind
    when 'key' then array(select jsonb_array_elements_text(p_change.items))
    when 'invalidation' then array(select jsonb_array_elements_text(p_change.items)) || '{invalidated}'
    else array_remove(array['any', 'c:' || p_change.id, 'p:' || p_change.parent_before, 'p:' || p_change.parent_after], null) end;
$$;

-- Whether what was true at a tick still is: no later change touched an item it was made of. A stretch too long to look
-- through counts as touched.
create or replace function is_untouched(p_space space, p_deps text[], p_at bigint) returns boolean language sql stable as $$
  select p_deps = '{}' or (p_at >= p_space.feed_floor and p_space.clock - p_at <= 1024 and not exists (
    select from change h where h.space_id = p_space.id and h.tick > p_at and change_items(h) && (p_deps || '{*}')));
$$;

-- An entry of layer 3 that is true at this snapshot, as {deps, body}; null where there is none.
create or replace function cached_entry(p_kind text, p_key text) returns text language sql stable as $$
  select jsonb_build_object('deps', e.deps, 'body', e.body)::text from cache_entry e join space s on s.id = e.space_id
  where e.space_id = current_setting('lamina.space') and e.kind = p_kind and e.key = p_key
    and e.expires_at > statement_timestamp() and is_untouched(s, e.deps, e.at);
$$;

-- The vector of a query. No tick governs it, since a model gives a text the same vector for ever: what is about to end, or has
-- and is still there, is given a new term by whoever asks for it.
create or replace function held_vector(p_key text, p_ttl_seconds double precision, p_renew_seconds double precision)
returns text language sql as $$
  with renewed as (
    update cache_entry set expires_at = clock_timestamp() + make_interval(secs => p_ttl_seconds * (0.9 + random() * 0.2))
    where space_id = current_setting('lamina.space') and kind = 'vector' and key = p_key
      and expires_at <= clock_timestamp() + make_interval(secs => p_renew_seconds)
    returning body
  )
  select body from renewed union all
  select body from cache_entry where space_id = current_setting('lamina.space') and kind = 'vector' and key = p_key
  limit 1;
$$;

-- Keeps an answer unless it is true no more, or a newer one is there. The clock is held meanwhile, so that an erase,
-- which empties the table after it has ticked, finds whatever came in before it.
create or replace function keep_entry(p_kind text, p_key text, p_at bigint, p_deps jsonb, p_body text, p_ttl_seconds double precision)
returns boolean language plpgsql as $$
declare
  v_space space;
  v_deps text[] := array(select jsonb_array_elements_text(p_deps));
begin
  select * into v_space from space where id = current_setting('lamina.space') for share;
  if v_space.id is null or not is_untouched(v_space, v_deps, p_at) then return false; end if;
  insert into cache_entry (space_id, kind, key, at, deps, body, expires_at)
  values (v_space.id, p_kind, p_key, p_at, v_deps, p_body, clock_timestamp() + make_interval(secs => p_ttl_seconds))
  on conflict (space_id, kind, key) do update
    set at = excluded.at, deps = excluded.deps, body = excluded.body, stored_at = clock_timestamp(), expires_at = excluded.expires_at
    where cache_entry.at <= excluded.at or cache_entry.expires_at <= clock_timestamp();
  return found;
end $$;

-- Removes entries whose time is over; one that a change has made worthless is written over by its next reader.
create or replace function forget_entries(p_limit integer) returns integer language sql as $$
  with deleted as (
    delete from cache_entry e where space_id = current_setting('lamina.space') and (kind, key) in (
      select o.kind, o.key from cache_entry o where o.space_id = current_setting('lamina.space')
        and o.expires_at <= clock_timestamp() limit p_limit for update skip locked)
    returning 1
  ) select count(*)::integer from deleted;
$$;

create or replace function forget_reports(p_days double precision, p_limit integer) returns integer language sql as $$
  with deleted as (
    delete from cache_report where space_id = current_setting('lamina.space') and id in (
      select id from cache_report where space_id = current_setting('lamina.space')
        and at < clock_timestamp() - make_interval(secs => p_days * 86400) limit p_limit for update skip locked)
    returning 1
  ) select count(*)::integer from deleted;
$$;

-- What is worth having in the caches, the most valuable first: by how often it was read, a read counting half after each
-- half-life; then what was changed last. Keys as the reports have them, kind:id.
create or replace function warm_plan(p_half_life_hours double precision, p_limit integer) returns setof text language sql stable as $$
  with read as (
    select a.key, sum(a.count::double precision * power(0.5, extract(epoch from statement_timestamp() - r.at) / 3600 / p_half_life_hours)) as score
    from cache_report r cross join lateral jsonb_each_text(r.accesses) as a (key, count)
    -- After four half-lives a read counts a sixteenth, and reports are many.
    where r.space_id = current_setting('lamina.space') and a.key ~ '^(head|effective):'
      and r.at > statement_timestamp() - make_interval(secs => 4 * 3600 * p_half_life_hours) group by a.key
  ), ranked as (
    select key, score, null::timestamptz as updated_at from read
    union all
    (select 'head:' || id, 0, updated_at from context where space_id = current_setting('lamina.space') and state = 'live'
      order by updated_at desc, id limit p_limit)
  )
  select key from ranked group by key order by max(score) desc, max(updated_at) desc nulls last, key limit p_limit;
$$;
