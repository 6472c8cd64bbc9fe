-- Locks, taken in this order everywhere: tree, idempotency key, contexts, contents, the space's clock.
-- Only a holder of the tree lock ever holds more than one context, so contexts need no order among themselves;
-- contents are shared by writers and only tried, never waited for, by whoever collects garbage.

create or replace function lock_tree() returns void language sql as $$
  select pg_advisory_xact_lock(hashtextextended('tree ' || current_setting('lamina.space'), 0));
$$;

create or replace function lock_context(p_id text) returns void language sql as $$
  select pg_advisory_xact_lock(hashtextextended('context ' || current_setting('lamina.space') || ' ' || p_id, 0));
$$;

create or replace function content_lock(p_hash bytea) returns bigint language sql as $$
  select hashtextextended('content ' || current_setting('lamina.space') || ' ' || encode(p_hash, 'hex'), 0);
$$;

-- Removes contents that no version holds any more; those somebody is writing just now are left for the next cleanup.
create or replace function collect_contents(p_hashes bytea[]) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_hash bytea;
  v_count integer := 0;
begin
  foreach v_hash in array p_hashes loop
    continue when v_hash is null or not pg_try_advisory_xact_lock(content_lock(v_hash));
    delete from content where space_id = v_space and hash = v_hash
      and not exists (select from context_version where space_id = v_space and hash = v_hash);
    if found then v_count := v_count + 1; end if;
  end loop;
  return v_count;
end $$;
