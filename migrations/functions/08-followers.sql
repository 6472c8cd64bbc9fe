-- Moves a follower's cursor inside the transaction of its effect. Where another instance has moved it first, the
-- transaction breaks, effect and all, and whoever ran it starts again from where the other has come.
create or replace function move_cursor(p_name text, p_from bigint, p_to bigint) returns void language plpgsql as $$
begin
  insert into follower (space_id, name, cursor) values (current_setting('lamina.space'), p_name, p_to)
  on conflict (space_id, name) do update set cursor = p_to, updated_at = clock_timestamp() where follower.cursor = p_from;
  if not found then
    raise exception 'follower % was moved by another instance', p_name using errcode = 'LM002';
  end if;
end $$;
