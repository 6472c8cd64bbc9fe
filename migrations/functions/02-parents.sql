-- Whether p_id may have p_parent: null when it may, else the outcome to report. Called under the tree lock, so what it
-- sees cannot change before the write commits. A tree is at most p_depth contexts deep, its root included; what is no
-- longer alive is in no tree, but would be again if p_id came back above its own former child.
create or replace function refuse_parent(p_id text, p_parent text, p_depth integer) returns text language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_above integer;
  v_below integer;
begin
  if p_parent = p_id then return 'parent_cycle'; end if;
  if not exists (select from context c where c.space_id = v_space and c.id = p_parent and is_live(c)) then
    return 'parent_not_found';
  end if;

  with recursive up (id, parent_id, above) as (
    select c.id, c.parent_id, 1 from context c where c.space_id = v_space and c.id = p_parent
    union all
    select c.id, c.parent_id, up.above + 1
    from up join context c on c.space_id = v_space and c.id = up.parent_id and is_live(c)
    where up.above <= p_depth and up.id <> p_id
  )
  select case when bool_or(id = p_id or parent_id = p_id) then -1 else max(above) end into v_above from up;
  if v_above = -1 then return 'parent_cycle'; end if;
  if v_above >= p_depth then return 'tree_too_deep'; end if;

  with recursive down (id, below) as (
    select p_id, 0
    union all
    select c.id, down.below + 1
    from down join context c on c.space_id = v_space and c.parent_id = down.id and is_live(c)
    where v_above + down.below < p_depth
  )
  select max(below) into v_below from down;
  if v_above + 1 + v_below > p_depth then return 'tree_too_deep'; end if;
  return null;
end $$;

-- The live contexts below p_id, the deepest first; only the children where p_mode is not 'delete'. At most p_limit + 1.
create or replace function contexts_below(p_id text, p_mode text, p_limit integer) returns text[] language sql as $$
  with recursive under (id, level) as (
    select c.id, 1 from context c where c.space_id = current_setting('lamina.space') and c.parent_id = p_id and is_live(c)
    union all
    select c.id, under.level + 1
    from under join context c on c.space_id = current_setting('lamina.space') and c.parent_id = under.id and is_live(c)
    where p_mode = 'delete' and under.level < 64
  )
  select coalesce(array_agg(id order by level desc, id), '{}') from (select * from under limit p_limit + 1) bounded;
$$;

-- Contexts that belong to others than p_root: whose ids begin with p_prefix, and whatever lies below them, but for p_root and what
-- lies below that. Deleted ones count like any: what lies below them does not become everybody's.
create or replace function ids_of_others(p_prefix text, p_root text) returns setof text language plpgsql stable rows 100 as $$
declare
  v_space text := current_setting('lamina.space');
  v_after text := left(p_prefix, -1) || chr(ascii(right(p_prefix, 1)) + 1);
  v_own text[];
  v_below text[];
begin
  v_below := array[p_root];
  while v_below <> '{}' loop
    v_own := v_own || v_below;
    v_below := array(select c.id from unnest(v_below) b (id) join context c on c.space_id = v_space and c.parent_id = b.id);
  end loop;
  return query select c.id from context c where c.space_id = v_space and c.id >= p_prefix collate "C" and c.id < v_after collate "C"
    and c.id not in (select unnest(v_own));
  -- Few have a parent of the prefix and not the prefix themselves.
  v_below := array(select c.id from context c where c.space_id = v_space
    and c.parent_id >= p_prefix collate "C" and c.parent_id < v_after collate "C" and not (c.id >= p_prefix collate "C" and c.id < v_after collate "C")
    and c.id not in (select unnest(v_own)));
  while v_below <> '{}' loop
    return query select unnest(v_below);
    v_below := array(select c.id from unnest(v_below) b (id) join context c on c.space_id = v_space and c.parent_id = b.id
      where c.id not in (select unnest(v_own)));
  end loop;
end $$;

-- The same of one context, for where few are asked about: whether it, or what it lies below, begins with the prefix before p_root
-- is met on the way up.
create or replace function is_of_others(p_id text, p_prefix text, p_root text) returns boolean language plpgsql stable as $$
declare
  v_space text := current_setting('lamina.space');
  v_id text := p_id;
  v_is_of_others boolean := false;
begin
  while v_id is not null loop
    if v_id = p_root then return false; end if;
    v_is_of_others := v_is_of_others or starts_with(v_id, p_prefix);
    select c.parent_id into v_id from context c where c.space_id = v_space and c.id = v_id;
    if not found then exit; end if;
  end loop;
  return v_is_of_others;
end $$;
