-- An invalidation is a change like any other: one tick that touches what is to be loaded again, whatever it covers.
-- p_what: {ids} | {tags: items} | {pattern, from, below} | {all: true}; a pattern is a regular expression over ids that
-- lie in [from, below), and covers what is absent too. Answers {clock, changes}.
create or replace function invalidate(p_what jsonb, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_ids text[];
  v_items jsonb;
  v_recorded jsonb;
  v_answer jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  if p_what ? 'pattern' then
    select array_agg(id) into v_ids from (
      select id from context where space_id = v_space and id >= p_what ->> 'from' collate "C"
        and (p_what ->> 'below' is null or id < p_what ->> 'below' collate "C") and id ~ (p_what ->> 'pattern') limit 1001
    ) matching;
    v_items := case when array_length(v_ids, 1) > 1000 then '["*"]'
      else '["absent"]' || coalesce((select jsonb_agg('c:' || id) from unnest(v_ids) id), '[]') end;
  else
    v_items := case when p_what ? 'all' then '["*"]' else p_what -> 'items' end;
  end if;
  v_answer := record_changes(array[row(v_space, 0, 'invalidation', null, null, 'invalidate', null, null, null, v_items,
    p_options -> 'actor' ->> 'kind', p_options -> 'actor' ->> 'id', p_options ->> 'origin', clock_timestamp())::change]);
  perform keep_answer(p_options, jsonb_build_object('clock', v_answer -> 'clock'));
  return v_answer;
end $$;
