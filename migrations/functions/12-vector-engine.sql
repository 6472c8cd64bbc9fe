-- Entries of a search engine beside PostgreSQL: see vector_entry.

-- Notes that chunks are about to be sent, as far as they are still there; p_places has {id, key} each. Answers with the
-- revision of each.
create or replace function begin_entries(p_places json) returns table (id text, key uuid, revision bigint) language sql as $$
  insert into vector_entry as v (space_id, context_id, key)
  select c.space_id, c.context_id, c.key from json_to_recordset(p_places) as p (id text, key uuid)
  join chunk c on c.space_id = current_setting('lamina.space') and c.context_id = p.id and c.key = p.key
  on conflict (space_id, context_id, key) do update set revision = nextval('vector_entry_revision'), held_of = null
  returning v.context_id, v.key, v.revision;
$$;

-- Notes that the engine holds what was sent, unless it was sent or forgotten again meanwhile.
create or replace function confirm_entries(p_entries json, p_embedder text) returns void language sql as $$
  update vector_entry v set held_of = p_embedder
  from json_to_recordset(p_entries) as e (id text, key uuid, revision bigint)
  where v.space_id = current_setting('lamina.space') and v.context_id = e.id and v.key = e.key and v.revision = e.revision;
$$;

-- Notes that the engine was told to forget these. A chunk that came back meanwhile has to be sent again, whether it was sent
-- before the engine forgot it or after.
create or replace function forget_entries_of(p_places json) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  perform lock_search();
  with told as (
    select p.id, p.key, exists (
      select from chunk c where c.space_id = v_space and c.context_id = p.id and c.key = p.key) as is_back
    from json_to_recordset(p_places) as p (id text, key uuid)
  ), gone as (
    delete from vector_entry v using told t where v.space_id = v_space and v.context_id = t.id and v.key = t.key and not t.is_back
    returning 1
  )
  update vector_entry v set revision = nextval('vector_entry_revision'), held_of = null
  from told t where v.space_id = v_space and v.context_id = t.id and v.key = t.key and t.is_back;
  update search_state set vectors_of = null where space_id = v_space and exists (
    select from json_to_recordset(p_places) as p (id text, key uuid)
    join vector_entry v on v.space_id = v_space and v.context_id = p.id and v.key = p.key);
end $$;
