-- Layer 3 of the cache, and what instances report of their caches.

create table cache_entry (
  space_id text collate "C" not null references space (id),
  kind text not null,
  key text collate "C" not null,
  at bigint not null,
  deps text[] not null,
  body text not null,
  stored_at timestamptz(3) not null default clock_timestamp(),
  expires_at timestamptz(3) not null,
  primary key (space_id, kind, key)
);
comment on table cache_entry is 'Layer 3: answers that are dearer to compute than to fetch. Valid as long as no change after at touched one of deps.';
comment on column cache_entry.at is 'The tick of the space''s clock at whose snapshot the answer was true.';
comment on column cache_entry.deps is 'The items the answer was made of, as the feed names what it touches; none is valid until it expires.';
alter table cache_entry alter column body set storage external;

create index cache_entry_age on cache_entry (space_id, expires_at);

create table cache_report (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  at timestamptz(3) not null default clock_timestamp(),
  kinds jsonb not null,
  accesses jsonb not null,
  primary key (space_id, id)
);
comment on table cache_report is 'What an instance counted since its last report, brought along by a write: only ever inserted, so that reports wait for nobody.';
comment on column cache_report.kinds is 'For each kind of cached value its hits and misses by layer.';
comment on column cache_report.accesses is 'How often each value was read, the most read ones: kind:key → count. Warming goes by it.';

create index cache_report_age on cache_report (space_id, at);

do $$
declare
  v_table text;
begin
  foreach v_table in array array['cache_entry', 'cache_report'] loop
    execute format('alter table %I enable row level security', v_table);
    execute format('alter table %I force row level security', v_table);
    execute format($policy$create policy own_space on %I to lamina_app
      using (space_id = current_setting('lamina.space', true))
      with check (space_id = current_setting('lamina.space', true))$policy$, v_table);
    execute format('grant select, insert, update, delete on %I to lamina_app', v_table);
  end loop;
end $$;

create view cache_statistics with (security_invoker = true) as
with counted as (
  select r.space_id, kind,
    sum((counts ->> 'l1Hits')::bigint) as l1_hits, sum((counts ->> 'l2Hits')::bigint) as l2_hits,
    sum((counts ->> 'l3Hits')::bigint) as l3_hits, sum((counts ->> 'loads')::bigint) as loads,
    sum((counts ->> 'stale')::bigint) as stale, max(r.at) as reported_at
  from cache_report r cross join lateral jsonb_each(r.kinds) as k (kind, counts)
  group by r.space_id, kind
), stored as (
  select space_id, kind, count(*) as entries, sum(octet_length(body)) as bytes, min(stored_at) as oldest_at
  from cache_entry group by space_id, kind
)
select
  space_id, kind, l1_hits, l2_hits, l3_hits, loads, stale,
  (l1_hits + l2_hits + l3_hits)::double precision / nullif(l1_hits + l2_hits + l3_hits + loads, 0) as hit_rate,
  coalesce(entries, 0) as l3_entries, coalesce(bytes, 0) as l3_bytes, oldest_at as l3_oldest_at, reported_at
from counted full join stored using (space_id, kind);
comment on view cache_statistics is 'A row a space and kind of cached value: what the instances reported, and what layer 3 holds.';

grant select on cache_statistics to lamina_app;
