-- Entries of a search engine beside PostgreSQL: see vector_entry. Rows are locked under search_state.

-- Whether it is p_holder who may speak to the engine from now on, for p_seconds: longer than what was sent may be on its way.
create or replace function take_lease(p_holder text, p_seconds double precision) returns boolean language plpgsql as $$
begin
  perform lock_search();
  update search_state set lease = p_holder, leased_until = clock_timestamp() + make_interval(secs => p_seconds)
  where space_id = current_setting('lamina.space') and (lease is null or lease = p_holder or leased_until < clock_timestamp());
  return found;
end $$;

create or replace function release_lease(p_holder text) returns void language sql as $$
  update search_state set lease = null, leased_until = null where space_id = current_setting('lamina.space') and lease = p_holder;
$$;

-- Whether vectors are to be made as p_label has them. Whoever is named takes over from who was there before its process began;
-- who is there by default, from who was not seen for a day.
create or replace function claim_vectors(p_label text, p_started_ms bigint, p_is_named boolean) returns boolean language plpgsql as $$
begin
  perform lock_search();
  update search_state set owner = p_label, owner_seen = clock_timestamp(),
    owned_since = case when owner = p_label then owned_since else clock_timestamp() end
  where space_id = current_setting('lamina.space') and (owner is null
    or (owner = p_label and owner_seen < clock_timestamp() - interval '1 hour')
    or (owner <> p_label and case when p_is_named then to_ms(owned_since) < p_started_ms else owner_seen < clock_timestamp() - interval '1 day' end));
  return (select owner = p_label from search_state where space_id = current_setting('lamina.space'));
end $$;

-- Notes that chunks are about to be sent, as far as they are still there; p_places has {id, key} each. Answers with the
-- revision of each.
create or replace function begin_entries(p_places json) returns table (id text, key uuid, revision bigint) language plpgsql as $$
#variable_conflict use_column
begin
  perform lock_search();
  return query insert into vector_entry as v (space_id, context_id, key, revision)
  select c.space_id, c.context_id, c.key, nextval('vector_entry_revision') from json_to_recordset(p_places) as p (id text, key uuid)
  join chunk c on c.space_id = current_setting('lamina.space') and c.context_id = p.id and c.key = p.key
  on conflict (space_id, context_id, key) do update set revision = excluded.revision, held_of = null
  returning v.context_id, v.key, v.revision;
end $$;

-- Notes that what was sent has arrived, unless it was removed meanwhile.
create or replace function confirm_entries(p_entries json, p_label text) returns void language plpgsql as $$
begin
  perform lock_search();
  update vector_entry v set held_of = p_label
  from json_to_recordset(p_entries) as e (id text, key uuid, revision bigint)
  where v.space_id = current_setting('lamina.space') and v.context_id = e.id and v.key = e.key and v.revision = e.revision;
end $$;

-- Notes that the engine has removed these. A chunk that came back has to be sent again; p_is_last forgets the others, which
-- only who holds the lease may: until then what is on its way may still arrive.
create or replace function remove_entries(p_places json, p_is_last boolean) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  perform lock_search();
  update vector_entry v set revision = nextval('vector_entry_revision'), held_of = null
  from json_to_recordset(p_places) as p (id text, key uuid)
  where v.space_id = v_space and v.context_id = p.id and v.key = p.key
    and exists (select from chunk c where c.space_id = v_space and c.context_id = p.id and c.key = p.key);
  if found then update search_state set vectors_of = null where space_id = v_space; end if;
  if not p_is_last then return; end if;
  delete from vector_entry v using json_to_recordset(p_places) as p (id text, key uuid)
  where v.space_id = v_space and v.context_id = p.id and v.key = p.key
    and not exists (select from chunk c where c.space_id = v_space and c.context_id = p.id and c.key = p.key);
end $$;
