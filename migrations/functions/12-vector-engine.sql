-- Entries of a search engine beside PostgreSQL: see vector_entry.

-- Notes that chunks are about to be sent, as far as they are still there; p_places has {id, key} each. Answers with the
-- revision of each.
create or replace function begin_entries(p_places json) returns table (id text, key uuid, revision bigint) language sql as $$
  insert into vector_entry as v (space_id, context_id, key, revision, begun, sent_at)
  select c.space_id, c.context_id, c.key, c.next, c.next, clock_timestamp() from (
    select c.*, nextval('vector_entry_revision') as next from json_to_recordset(p_places) as p (id text, key uuid)
    join chunk c on c.space_id = current_setting('lamina.space') and c.context_id = p.id and c.key = p.key) c
  on conflict (space_id, context_id, key) do update
    set revision = excluded.revision, begun = excluded.begun, sent_at = excluded.sent_at, held_of = null
  returning v.context_id, v.key, v.revision;
$$;

-- Notes that what was sent has arrived: held, unless it was sent anew or its chunk went meanwhile.
create or replace function confirm_entries(p_entries json, p_label text) returns void language sql as $$
  update vector_entry v set sent_at = case when v.begun = e.revision then null else v.sent_at end,
    held_of = case when v.revision = e.revision then p_label else v.held_of end
  from json_to_recordset(p_entries) as e (id text, key uuid, revision bigint)
  where v.space_id = current_setting('lamina.space') and v.context_id = e.id and v.key = e.key;
$$;

-- Notes that the engine has forgotten these. What may still arrive, since it was sent less than five minutes ago and has not
-- ended, has to be forgotten once more; a chunk that came back has to be sent again.
create or replace function forget_entries_of(p_places json) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  perform lock_search();
  delete from vector_entry v using json_to_recordset(p_places) as p (id text, key uuid)
  where v.space_id = v_space and v.context_id = p.id and v.key = p.key
    and (v.sent_at is null or v.sent_at < clock_timestamp() - interval '5 minutes')
    and not exists (select from chunk c where c.space_id = v_space and c.context_id = p.id and c.key = p.key);
  update vector_entry v set revision = nextval('vector_entry_revision'), held_of = null
  from json_to_recordset(p_places) as p (id text, key uuid)
  where v.space_id = v_space and v.context_id = p.id and v.key = p.key
    and exists (select from chunk c where c.space_id = v_space and c.context_id = p.id and c.key = p.key);
  if found then update search_state set vectors_of = null where space_id = v_space; end if;
end $$;
