-- Views for statistics and monitoring. They run with the rights of whoever asks, so row-level security holds in them.

create view space_statistics with (security_invoker = true) as
select
  s.id as space_id,
  s.clock,
  s.feed_floor,
  count(c.id) filter (where c.state = 'live') as contexts,
  count(c.id) filter (where c.state = 'live' and c.expires_at <= clock_timestamp()) as expired,
  count(c.id) filter (where c.state = 'deleted') as tombstones,
  coalesce(sum(c.size_bytes) filter (where c.state = 'live'), 0) as content_bytes,
  coalesce(max(c.size_bytes) filter (where c.state = 'live'), 0) as largest_bytes,
  max(c.updated_at) as updated_at
from space s
left join context c on c.space_id = s.id
group by s.id;
comment on view space_statistics is 'A row a space: how many contexts it holds, how large they are, where its clock stands.';

create view version_statistics with (security_invoker = true) as
select
  space_id,
  count(*) as versions,
  count(*) filter (where pinned) as pinned,
  count(*) filter (where hash is null) as tombstones,
  count(distinct hash) as distinct_contents,
  coalesce(sum(size_bytes), 0) as version_bytes,
  min(created_at) as oldest_at
from context_version
group by space_id;
comment on view version_statistics is 'A row a space: how much history it keeps.';

grant select on space_statistics, version_statistics to lamina_app;
