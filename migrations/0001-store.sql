-- The tables of the store. space_id leads every primary key; row-level security is forced on every table, so that a
-- statement without its predicate finds nothing of another space, on a session-less connection too.

do $$ begin
  create role lamina_app nologin;
exception when duplicate_object or unique_violation then null;
end $$;

-- From PostgreSQL 16 on, whoever creates a role may not take it before it is granted; whoever may not grant it can
-- have been granted it. That it can be taken is tried here, where it is easy to understand.
do $$ begin
  execute format('grant lamina_app to %I', current_user);
exception when insufficient_privilege then null;
end $$;

do $$ begin
  perform set_config('role', 'lamina_app', true);
  perform set_config('role', 'none', true);
exception when others then
  raise exception 'the role % cannot take the role lamina_app: grant it, then migrate again', current_user;
end $$;

grant usage on schema public to lamina_app;

create table space (
  id text collate "C" primary key,
  clock bigint not null default 0,
  feed_floor bigint not null default 0,
  created_at timestamptz(3) not null default clock_timestamp(),
  closed_at timestamptz(3)
);
comment on table space is 'A tenant. Everything belongs to exactly one.';
comment on column space.clock is 'The tick of the newest committed change: gapless, moved inside the write that makes the change.';
comment on column space.feed_floor is 'Changes up to this tick are no longer in the feed.';
comment on column space.closed_at is 'When its removal began: from then on nobody finds it but who removes it.';

create table api_key (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  name text not null,
  secret_hash text not null,
  scopes text[] not null,
  created_at timestamptz(3) not null default clock_timestamp(),
  expires_at timestamptz(3),
  revoked_at timestamptz(3),
  primary key (space_id, id)
);
comment on table api_key is 'Credentials. The secret is known to its holder alone.';
comment on column api_key.secret_hash is 'SHA-256 of the secret, 64 hexadecimal digits.';

create table audit (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  at timestamptz(3) not null default clock_timestamp(),
  actor_kind text not null,
  actor_id text not null,
  action text not null,
  target text,
  primary key (space_id, id)
);
comment on table audit is 'Who did what an administrator should be able to ask for later.';

create table context (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  version integer not null,
  state text not null check (state in ('live', 'deleted', 'erased')),
  hash bytea,
  content_type text,
  size_bytes integer not null,
  kind text not null,
  parent_id text collate "C",
  metadata jsonb not null,
  expires_at timestamptz(3),
  actor_kind text not null,
  actor_id text not null,
  created_at timestamptz(3) not null,
  updated_at timestamptz(3) not null,
  kept_versions integer not null,
  primary key (space_id, id)
);
comment on table context is 'The head of each context: a copy of its newest version, so that a read touches one row whatever the history.';
comment on column context.state is 'live; deleted: the head is a tombstone; erased: nothing is left but the highest version number.';
comment on column context.hash is 'SHA-256 of the content bytes; null when there is no content.';
comment on column context.kept_versions is 'Versions that retention counts: those not pinned, the head included.';

create index context_parent on context (space_id, parent_id, id) where parent_id is not null;
create index context_updated on context (space_id, updated_at desc, id) where state = 'live';
create index context_kind on context (space_id, kind, id) where state = 'live';
create index context_expiry on context (space_id, expires_at) where state = 'live' and expires_at is not null;
create index context_tombstone on context (space_id, updated_at) where state = 'deleted';

create table context_term (
  space_id text collate "C" not null,
  term text collate "C" not null,
  id text collate "C" not null,
  primary key (space_id, term, id)
);
comment on table context_term is 'What metadata can be found by: path=value for each scalar and each scalar of an array, hashed where it is long. An index over jsonb cannot be used under row-level security, since its operators are not leakproof.';

create index context_term_context on context_term (space_id, id);

create table context_version (
  space_id text collate "C" not null,
  id text collate "C" not null,
  version integer not null,
  operation text not null,
  hash bytea,
  content_type text,
  size_bytes integer not null,
  kind text not null,
  parent_id text collate "C",
  metadata jsonb not null,
  expires_at timestamptz(3),
  actor_kind text not null,
  actor_id text not null,
  created_at timestamptz(3) not null,
  pinned boolean not null default false,
  merged_from jsonb,
  message text,
  primary key (space_id, id, version)
);
comment on table context_version is 'Every version that retention has kept. A row without hash is a tombstone.';

create index context_version_time on context_version (space_id, id, created_at);
create index context_version_hash on context_version (space_id, hash) where hash is not null;

create table content (
  space_id text collate "C" not null,
  hash bytea not null,
  part integer not null,
  encoding text not null check (encoding in ('raw', 'zstd')),
  bytes bytea not null,
  primary key (space_id, hash, part)
);
comment on table content is 'Content bytes once a space, by SHA-256, in parts of at most 4 MiB before encoding.';
alter table content alter column bytes set storage external;

create table garbage (
  space_id text collate "C" not null,
  hash bytea not null,
  id bigint generated always as identity,
  primary key (space_id, hash, id)
);
comment on table garbage is 'Contents that may have lost their last version, for cleanup to look at; more than one note is no harm, and nobody waits for another''s.';

create table change (
  space_id text collate "C" not null,
  tick bigint not null,
  kind text not null check (kind in ('context', 'invalidation', 'key', 'erased')),
  id text collate "C",
  version integer,
  operation text not null,
  hash bytea,
  parent_before text collate "C",
  parent_after text collate "C",
  items jsonb,
  actor_kind text,
  actor_id text,
  origin text,
  at timestamptz(3) not null,
  primary key (space_id, tick)
);
comment on table change is 'The feed: one row a tick, in order, none missing above space.feed_floor.';
comment on column change.kind is 'erased: the change belonged to a context that was erased since; its tick and parents remain.';
comment on column change.origin is 'The door, peer or run that made the change, by which echoes are recognised.';

create index change_context on change (space_id, id) where id is not null;

create table follower (
  space_id text collate "C" not null references space (id),
  name text not null,
  cursor bigint not null default 0,
  updated_at timestamptz(3) not null default clock_timestamp(),
  primary key (space_id, name)
);
comment on table follower is 'How far each reader of the feed has come; moved in the transaction of its effect.';

create table idempotency (
  space_id text collate "C" not null,
  key text not null,
  fingerprint text not null,
  ids text[] not null,
  answer jsonb,
  created_at timestamptz(3) not null default clock_timestamp(),
  primary key (space_id, key)
);
comment on table idempotency is 'Answers of writes by Idempotency-Key, for 24 hours, as the versions they made.';

create index idempotency_age on idempotency (space_id, created_at);

-- lamina_app sees one space, named by the transaction; the owner's door sees the spaces and their keys alone.
do $$
declare
  v_table text;
begin
  foreach v_table in array array[
    'api_key', 'audit', 'context', 'context_term', 'context_version', 'content', 'garbage', 'change', 'follower', 'idempotency'
  ] loop
    execute format('alter table %I enable row level security', v_table);
    execute format('alter table %I force row level security', v_table);
    execute format($policy$create policy own_space on %I to lamina_app
      using (space_id = current_setting('lamina.space', true))
      with check (space_id = current_setting('lamina.space', true))$policy$, v_table);
    execute format('grant select, insert, update, delete on %I to lamina_app', v_table);
  end loop;
end $$;

alter table space enable row level security;
alter table space force row level security;
create policy own_space on space to lamina_app using (id = current_setting('lamina.space', true) and closed_at is null);
grant select, update on space to lamina_app;

create policy owner_door on space to current_user using (true) with check (true);
create policy owner_door on api_key to current_user using (true) with check (true);
