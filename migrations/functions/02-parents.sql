-- Whether p_id may have p_parent: null when it may, else the outcome to report. Called under the tree lock, so what it
-- sees cannot change before the write commits. A tree is at most p_depth contexts deep, its root included.
create or replace function refuse_parent(p_id text, p_parent text, p_depth integer) returns text language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_above integer;
  v_below integer;
begin
  if p_parent = p_id then return 'parent_cycle'; end if;
  if not exists (
    select from context where space_id = v_space and id = p_parent and state = 'live'
      and (expires_at is null or expires_at > clock_timestamp())
  ) then return 'parent_not_found'; end if;

  with recursive up (id, parent_id, above) as (
    select c.id, c.parent_id, 1 from context c where c.space_id = v_space and c.id = p_parent
    union all
    select c.id, c.parent_id, up.above + 1 from up join context c on c.space_id = v_space and c.id = up.parent_id
    where up.above <= p_depth and up.id <> p_id
  )
  select case when bool_or(id = p_id) then -1 else max(above) end into v_above from up;
  if v_above = -1 then return 'parent_cycle'; end if;
  if v_above >= p_depth then return 'tree_too_deep'; end if;

  with recursive down (id, below) as (
    select p_id, 0
    union all
    select c.id, down.below + 1 from down join context c on c.space_id = v_space and c.parent_id = down.id and c.state = 'live'
    where v_above + down.below < p_depth
  )
  select max(below) into v_below from down;
  if v_above + 1 + v_below > p_depth then return 'tree_too_deep'; end if;
  return null;
end $$;
