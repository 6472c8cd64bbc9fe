-- What cleanup removes, each in a bounded batch that the next call continues; answers say how much was done.

create or replace function purge_tombstones(p_days double precision, p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_id text;
  v_hashes bytea[];
  v_count integer := 0;
begin
  perform lock_tree();
  for v_id in
    select id from context where space_id = v_space and state = 'deleted'
      and updated_at < clock_timestamp() - make_interval(secs => p_days * 86400) order by updated_at limit p_limit
  loop
    perform lock_context(v_id);
    delete from context where space_id = v_space and id = v_id and state = 'deleted'
      and updated_at < clock_timestamp() - make_interval(secs => p_days * 86400);
    continue when not found;
    with deleted as (
      delete from context_version where space_id = v_space and id = v_id returning hash
    ) select array_agg(distinct hash) filter (where hash is not null) into v_hashes from deleted;
    perform collect_contents(coalesce(v_hashes, '{}'));
    v_count := v_count + 1;
  end loop;
  return v_count;
end $$;

create or replace function trim_versions(p_retained integer, p_days double precision, p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_id text;
  v_hashes bytea[];
  v_deleted integer;
  v_count integer := 0;
begin
  perform lock_tree();
  for v_id in
    select c.id from context c where c.space_id = v_space and c.kept_versions > p_retained and (p_days is null or exists (
      select from context_version v where v.space_id = v_space and v.id = c.id and v.version < c.version and not v.pinned
        and v.created_at < clock_timestamp() - make_interval(secs => p_days * 86400)))
    limit p_limit
  loop
    perform lock_context(v_id);
    with oldest as (
      select v.version from context_version v join context c on c.space_id = v.space_id and c.id = v.id
      where v.space_id = v_space and v.id = v_id and v.version < c.version and not v.pinned
      order by v.version limit (select greatest(kept_versions - p_retained, 0) from context where space_id = v_space and id = v_id)
    ), deleted as (
      delete from context_version v using oldest where v.space_id = v_space and v.id = v_id and v.version = oldest.version
        and (p_days is null or v.created_at < clock_timestamp() - make_interval(secs => p_days * 86400))
      returning v.hash
    )
    select array_agg(distinct hash) filter (where hash is not null), count(*) into v_hashes, v_deleted from deleted;
    update context set kept_versions = kept_versions - v_deleted where space_id = v_space and id = v_id;
    perform collect_contents(coalesce(v_hashes, '{}'));
    v_count := v_count + v_deleted;
  end loop;
  return v_count;
end $$;

-- Contents that a collector found busy and left behind.
create or replace function collect_orphans(p_limit integer) returns integer language sql as $$
  select collect_contents(coalesce(array(
    select distinct hash from content o where space_id = current_setting('lamina.space')
      and not exists (select from context_version v where v.space_id = o.space_id and v.hash = o.hash) limit p_limit), '{}'));
$$;

create or replace function forget_keys(p_limit integer) returns integer language sql as $$
  with deleted as (
    delete from idempotency where space_id = current_setting('lamina.space') and key in (
      select key from idempotency where space_id = current_setting('lamina.space')
        and created_at < clock_timestamp() - interval '24 hours' limit p_limit)
    returning 1
  ) select count(*)::integer from deleted;
$$;

create or replace function prune_feed(p_days double precision, p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_floor bigint;
  v_count integer;
begin
  select max(tick) into v_floor from (
    select tick, at from change where space_id = v_space order by tick limit p_limit
  ) oldest where at < clock_timestamp() - make_interval(secs => p_days * 86400);
  if v_floor is null then return 0; end if;
  delete from change where space_id = v_space and tick <= v_floor;
  get diagnostics v_count = row_count;
  update space set feed_floor = greatest(feed_floor, v_floor) where id = v_space;
  return v_count;
end $$;
