-- Contents that come in parts, until a write takes them or their time is over.

create table upload (
  space_id text collate "C" not null references space (id),
  id text collate "C" not null,
  size_bytes integer not null,
  content_type text not null,
  hash bytea,
  created_at timestamptz(3) not null default clock_timestamp(),
  expires_at timestamptz(3) not null,
  used_by text collate "C",
  used_version integer,
  primary key (space_id, id)
);
comment on table upload is 'A content that is being sent in parts. It is none of a context until a write names it, and is used up by that write.';
comment on column upload.hash is 'SHA-256 that the content is to have; null where none was told, and what it has once it is used.';
comment on column upload.used_by is 'The context whose version used_version took it; its parts are gone then, and the row tells whoever asks again.';

create index upload_expiry on upload (space_id, expires_at);
create index upload_context on upload (space_id, used_by) where used_by is not null;

create table upload_part (
  space_id text collate "C" not null,
  upload_id text collate "C" not null,
  part integer not null,
  hash bytea not null,
  encoding text not null check (encoding in ('raw', 'zstd')),
  bytes bytea not null,
  primary key (space_id, upload_id, part)
);
comment on table upload_part is 'What has come of uploads: parts from 1 on, as long and encoded as those of content, which they become.';
comment on column upload_part.hash is 'SHA-256 of the part before encoding.';
alter table upload_part alter column bytes set storage external;

do $$
declare
  v_table text;
begin
  foreach v_table in array array['upload', 'upload_part'] loop
    execute format('alter table %I enable row level security', v_table);
    execute format('alter table %I force row level security', v_table);
    execute format($policy$create policy own_space on %I to lamina_app
      using (space_id = current_setting('lamina.space', true))
      with check (space_id = current_setting('lamina.space', true))$policy$, v_table);
    execute format('grant select, insert, update, delete on %I to lamina_app', v_table);
  end loop;
end $$;
