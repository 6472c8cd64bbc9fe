-- Uploads: contents in parts. Whoever adds a part holds the upload in share, so that parts come side by side; the write
-- that takes it and the sweep hold it alone.

create or replace function lock_uploads() returns void language sql as $$
  select pg_advisory_xact_lock(hashtextextended('uploads ' || current_setting('lamina.space'), 0));
$$;

create or replace function to_upload(p_upload upload) returns jsonb language sql as $$
  select case when p_upload.id is null then null else jsonb_build_object('id', p_upload.id, 'sizeBytes', p_upload.size_bytes,
    'contentType', p_upload.content_type, 'hash', encode(p_upload.hash, 'hex'), 'createdMs', to_ms(p_upload.created_at),
    'expiresMs', to_ms(p_upload.expires_at), 'usedBy', p_upload.used_by, 'usedVersion', p_upload.used_version,
    'parts', coalesce((select jsonb_agg(jsonb_build_array(part, encode(hash, 'hex')) order by part) from upload_part
      where space_id = current_setting('lamina.space') and upload_id = p_upload.id), '[]')) end;
$$;

-- What the space has open; `next` is when there may be room again: the first expires, or has waited long enough to give way.
create or replace function count_uploads(out uploads bigint, out bytes bigint, out next timestamptz) language sql as $$
  select count(*), coalesce(sum(size_bytes), 0), least(min(expires_at), min(created_at + interval '10 minutes') filter (
      where created_at > clock_timestamp() - interval '10 minutes' and not exists (
        select from upload_part p where p.space_id = u.space_id and p.upload_id = u.id)))
    from upload u where space_id = current_setting('lamina.space') and used_by is null and expires_at > clock_timestamp();
$$;

-- Whether an upload of that size may be open beside the others.
create or replace function has_room(p_uploads bigint, p_bytes bigint, p_limits jsonb) returns boolean language sql immutable as $$
  select p_uploads < (p_limits ->> 'uploads')::integer and p_bytes <= (p_limits ->> 'bytes')::bigint;
$$;

-- Has uploads give way of which no part has come in ten minutes, the oldest first, and no more than it takes; none where all of
-- them were too few. p_bytes: of all that are open, and the one there shall be room for.
create or replace function make_room(p_uploads bigint, p_bytes bigint, p_limits jsonb) returns void language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_old text[];
begin
  -- Held before their parts are looked at, so that none comes meanwhile; who sends one holds the upload.
  v_old := array(select id from upload where space_id = v_space and used_by is null and expires_at > clock_timestamp()
    and created_at <= clock_timestamp() - interval '10 minutes' for update skip locked);
  with idle as (
    select id, p_uploads - row_number() over oldest as uploads, p_bytes - sum(size_bytes) over oldest as bytes, size_bytes
      from upload u where space_id = v_space and id = any (v_old)
        and not exists (select from upload_part p where p.space_id = v_space and p.upload_id = u.id)
      window oldest as (order by created_at, id)
  )
  delete from upload u using idle where u.space_id = v_space and u.id = idle.id
    and not has_room(idle.uploads + 1, idle.bytes + idle.size_bytes, p_limits)
    and exists (select from idle where has_room(uploads, bytes, p_limits));
end $$;

-- Begins an upload. p_upload: {id, sizeBytes, contentType, hash?}; p_limits: {hours, uploads, bytes}. Answers
-- {clock, upload}, or {clock, refused: {uploads, bytes, seconds}} where the space has too many open already.
create or replace function begin_upload(p_upload jsonb, p_limits jsonb, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_size integer := (p_upload ->> 'sizeBytes')::integer;
  v_open record;
  v_upload upload;
  v_recorded jsonb;
  v_answer jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  perform lock_uploads();
  select * into v_open from count_uploads();
  if not has_room(v_open.uploads, v_open.bytes + v_size, p_limits) then
    perform make_room(v_open.uploads, v_open.bytes + v_size, p_limits);
    select * into v_open from count_uploads();
  end if;
  if not has_room(v_open.uploads, v_open.bytes + v_size, p_limits) then
    perform release_key(p_options);
    return jsonb_build_object('clock', space_clock(), 'refused', jsonb_build_object('uploads', v_open.uploads, 'bytes', v_open.bytes,
      'seconds', greatest(ceil(extract(epoch from v_open.next - clock_timestamp())), 1)));
  end if;
  insert into upload (space_id, id, size_bytes, content_type, hash, expires_at)
    values (v_space, p_upload ->> 'id', v_size, p_upload ->> 'contentType', decode(p_upload ->> 'hash', 'hex'),
      clock_timestamp() + make_interval(secs => (p_limits ->> 'hours')::double precision * 3600))
    returning * into v_upload;
  v_answer := jsonb_build_object('upload', to_upload(v_upload));
  perform keep_answer(p_options, v_answer);
  return v_answer || jsonb_build_object('clock', space_clock());
end $$;

-- Why an upload takes no part and no write any more; null where it does.
create or replace function refuse_upload(p_upload upload) returns jsonb language sql as $$
  select case when p_upload.id is null or p_upload.expires_at <= clock_timestamp() then '{"outcome": "unknown"}'::jsonb
    when p_upload.used_by is not null then
      jsonb_build_object('outcome', 'used', 'usedBy', p_upload.used_by, 'usedVersion', p_upload.used_version) end;
$$;

-- Keeps a part. p_part: {part, sizeBytes, partBytes, hash, encoding}; a part that is there already in the same bytes stays as it is.
create or replace function put_part(p_id text, p_part jsonb, p_bytes text, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_part integer := (p_part ->> 'part')::integer;
  v_part_bytes integer := (p_part ->> 'partBytes')::integer;
  v_parts integer;
  v_expected bigint;
  v_upload upload;
  v_recorded jsonb;
  v_refusal jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  select * into v_upload from upload where space_id = v_space and id = p_id for share;
  v_parts := ceil(v_upload.size_bytes::numeric / v_part_bytes);
  v_expected := least(v_part_bytes, v_upload.size_bytes - (v_part - 1) * v_part_bytes::bigint);
  v_refusal := coalesce(refuse_upload(v_upload), case
    when v_part > v_parts then jsonb_build_object('outcome', 'no_part', 'parts', v_parts)
    when v_expected <> (p_part ->> 'sizeBytes')::integer then jsonb_build_object('outcome', 'wrong_size', 'sizeBytes', v_expected) end);
  if v_refusal is not null then
    perform release_key(p_options);
    return v_refusal || jsonb_build_object('clock', space_clock());
  end if;
  insert into upload_part (space_id, upload_id, part, hash, encoding, bytes)
    values (v_space, p_id, v_part, decode(p_part ->> 'hash', 'hex'), p_part ->> 'encoding', decode(p_bytes, 'base64'))
    on conflict (space_id, upload_id, part) do update
      set hash = excluded.hash, encoding = excluded.encoding, bytes = excluded.bytes where upload_part.hash <> excluded.hash;
  perform keep_answer(p_options, '{"outcome": "kept"}');
  return jsonb_build_object('outcome', 'kept', 'clock', space_clock());
end $$;

-- Gives an open upload up.
create or replace function drop_upload(p_id text, p_options jsonb) returns jsonb language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_upload upload;
  v_recorded jsonb;
  v_refusal jsonb;
begin
  v_recorded := take_key(p_options, array[]::text[]);
  if v_recorded is not null then return v_recorded; end if;
  select * into v_upload from upload where space_id = v_space and id = p_id for update;
  v_refusal := refuse_upload(v_upload);
  if v_refusal is not null then
    perform release_key(p_options);
    return v_refusal || jsonb_build_object('clock', space_clock());
  end if;
  delete from upload_part where space_id = v_space and upload_id = p_id;
  delete from upload where space_id = v_space and id = p_id;
  perform keep_answer(p_options, '{"outcome": "dropped"}');
  return jsonb_build_object('outcome', 'dropped', 'clock', space_clock());
end $$;

-- Locks the upload of a put for the write that takes it. p_wanted: {id, parts: hashes of the parts that were looked at}. Whoever
-- sends an acknowledged write again finds its content in the head, and may have it once more as long as it changes nothing;
-- anyone else finds the upload used up.
create or replace function lock_upload(p_wanted jsonb, p_id text, p_head context, out outcome text, out taken upload) language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
begin
  select * into taken from upload where space_id = v_space and id = p_wanted ->> 'id' for update;
  if taken.id is null or taken.expires_at <= clock_timestamp() then outcome := 'upload_unknown';
  elsif taken.used_by is not null then
    if taken.used_by <> p_id or not is_live(p_head) or p_head.hash <> taken.hash then outcome := 'upload_used'; end if;
  elsif (select coalesce(jsonb_agg(encode(hash, 'hex') order by part), '[]') from upload_part
      where space_id = v_space and upload_id = taken.id) <> p_wanted -> 'parts' then outcome := 'upload_changed';
  end if;
end $$;

-- Ends an upload that a write has taken. Its row stays for a day, as an idempotency key does.
create or replace function use_upload(p_upload upload, p_next context) returns void language plpgsql as $$
begin
  delete from upload_part where space_id = p_upload.space_id and upload_id = p_upload.id;
  update upload set used_by = p_next.id, used_version = p_next.version, hash = p_upload.hash,
      expires_at = clock_timestamp() + interval '24 hours'
    where space_id = p_upload.space_id and id = p_upload.id;
end $$;

-- Uploads that nobody finished in time, and what is left of used ones.
create or replace function forget_uploads(p_limit integer) returns integer language plpgsql as $$
declare
  v_space text := current_setting('lamina.space');
  v_ids text[];
begin
  v_ids := array(select id from upload where space_id = v_space and expires_at <= clock_timestamp()
    order by expires_at limit p_limit for update skip locked);
  delete from upload_part where space_id = v_space and upload_id = any (v_ids);
  delete from upload where space_id = v_space and id = any (v_ids);
  return coalesce(array_length(v_ids, 1), 0);
end $$;
