import type { Bounds, Found, GetReply, GetRequest, Reply, StoreReply, StoreRequest, Touch } from './redis.ts';

/** A script and what it is called with. */
export interface Call {
  readonly keys: readonly string[];
  readonly args: readonly string[];
}

// Everything of a space hashes to one slot; every key is declared, as Upstash wants for key locking.
export const everyKey = (space: string) => `{${space}}:*`;
export const entryKeys = (space: string) => `{${space}}:e:*`;
const stateKey = (space: string) => `{${space}}:s`;
const touchedKey = (space: string) => `{${space}}:t`;
export const entryKey = (space: string, key: string) => `{${space}}:e:${key}`;
const leaseKey = (space: string, key: string) => `{${space}}:l:${key}`;

/**
 * The first lines of both scripts: the state of the space, made anew where either of its two keys is lost. Numbers are
 * printed whole, since Lua would print a large one with an exponent.
 */
const opening = `
local S, T = KEYS[1], KEYS[2]
local since, nonce = tonumber(ARGV[1]), ARGV[2]
local itemsMax, listedMax = tonumber(ARGV[3]), tonumber(ARGV[4])
local function whole(n) return string.format('%.0f', n) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = redis.call('HMGET', S, 'inc', 'rev', 'applied', 'floor', 'verified')
local inc, rev, applied, floor, verified
if held[1] and redis.call('ZSCORE', T, '!' .. held[1]) then
  inc, rev, applied, floor, verified = held[1], tonumber(held[2]), tonumber(held[3]), tonumber(held[4]), tonumber(held[5])
else
  redis.call('DEL', S, T)
  inc = time[1] .. string.format('%06d', tonumber(time[2])) .. ':' .. nonce
  rev, applied, floor, verified = 0, since, since, 0
  redis.call('ZADD', T, '+inf', '!' .. inc)
  redis.call('HSET', S, 'inc', inc, 'rev', '0', 'applied', whole(applied), 'floor', whole(floor), 'verified', '0')
end
local function untouched(deps, at)
  if #deps == 0 then return true end
  for first = 1, #deps, 500 do
    for _, tick in ipairs(redis.call('ZMSCORE', T, unpack(deps, first, math.min(first + 499, #deps)))) do
      if tick and tonumber(tick) > at then return false end
    end
  end
  return true
end
local function lines(text)
  local found = {}
  for line in string.gmatch(text, '[^\\n]+') do found[#found + 1] = line end
  return found
end
local function valid(key)
  local entry = redis.call('HMGET', key, 'inc', 'at', 'deps', 'body')
  local at = tonumber(entry[2])
  if entry[1] ~= inc or not at or not entry[3] or not entry[4] or at < floor then return nil end
  if not untouched(lines(entry[3]), at) then return nil end
  return { at = at, deps = entry[3], body = entry[4] }
end
local function reply(last)
  local changed = 'RESET'
  if since >= floor then
    changed = {}
    -- One more than may be listed, and the sentinel; marks are below the watermark of those who ask, or of nobody.
    for index, part in ipairs(redis.call('ZRANGEBYSCORE', T, '(' .. whole(since), '+inf', 'WITHSCORES')) do
      changed[index] = part
    end
    local listed = {}
    for index = 1, #changed, 2 do
      local first = string.sub(changed[index], 1, 1)
      if first ~= '!' and first ~= '#' then
        listed[#listed + 1] = changed[index]
        listed[#listed + 1] = whole(tonumber(changed[index + 1]))
      end
    end
    changed = listed
    if #listed > 2 * listedMax then changed = 'RESET' end
  end
  return { inc, whole(rev), whole(applied), whole(verified), whole(now), changed, last }
end
`;

export const getScript = `${opening}
local leaseMs, count, bytesMax = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local found, bytes = {}, 0
for index = 1, count do
  local key = KEYS[2 + index]
  local entry = valid(key)
  if entry then bytes = bytes + #entry.body end
  if entry and index > 1 and bytes > bytesMax then
    found[index] = 'missing'
  elseif entry then
    local at = math.max(entry.at, applied)
    if at - entry.at > itemsMax / 2 then redis.call('HSET', key, 'at', whole(at)) end
    found[index] = { whole(at), entry.deps, entry.body }
  elseif leaseMs == 0 then
    found[index] = 'missing'
  elseif redis.call('SET', KEYS[2 + count + index], '1', 'NX', 'PX', leaseMs) then
    found[index] = 'granted'
  else
    found[index] = 'held'
  end
end
return reply(found)
`;

export const storeScript = `${opening}
local token, from, to, gotAt, marksMax = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local changes, entries, erased = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local arg = 13
rev = rev + 1
for _ = 1, changes do
  local item, tick = ARGV[arg], tonumber(ARGV[arg + 1])
  arg = arg + 2
  if item == '*' then
    floor = math.max(floor, tick)
  else
    local before = redis.call('ZSCORE', T, item)
    if not before or tonumber(before) < tick then redis.call('ZADD', T, whole(tick), item) end
  end
end
local marks = tonumber(redis.call('HGET', S, 'marks') or '0')
if from <= applied then
  applied = math.max(applied, to)
  verified = math.max(verified, gotAt)
else
  for tick = from + 1, to do
    if marks >= marksMax then break end
    marks = marks + redis.call('ZADD', T, whole(tick), '#' .. whole(tick))
  end
end
if marks > 0 then
  while redis.call('ZSCORE', T, '#' .. whole(applied + 1)) do applied = applied + 1 end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', T, '-inf', whole(applied))) do
    if string.sub(member, 1, 1) == '#' then marks = marks - redis.call('ZREM', T, member) end
  end
end
while redis.call('ZCARD', T) - 1 - marks > itemsMax do
  for _, member in ipairs(redis.call('ZRANGE', T, 0, marks)) do
    if string.sub(member, 1, 1) ~= '#' then
      floor = math.max(floor, tonumber(redis.call('ZSCORE', T, member)))
      redis.call('ZREM', T, member)
      break
    end
  end
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', T, '-inf', whole(floor))) do
  if string.sub(member, 1, 1) ~= '#' then redis.call('ZREM', T, member) end
end
redis.call('HSET', S, 'rev', whole(rev), 'applied', whole(applied), 'floor', whole(floor), 'verified', whole(verified), 'marks', whole(marks))
local accepted = {}
for index = 1, entries do
  local key, lease = KEYS[2 + index], KEYS[2 + entries + index]
  local at, deps, ttl, body = tonumber(ARGV[arg]), ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3]
  arg = arg + 4
  local ok = token == inc and at >= floor and untouched(lines(deps), at)
  if ok then
    local before = valid(key)
    ok = not (before and before.at > at)
  end
  if ok then
    redis.call('HSET', key, 'inc', inc, 'at', whole(at), 'deps', deps, 'body', body)
    redis.call('PEXPIRE', key, ttl)
  end
  redis.call('DEL', lease)
  accepted[index] = ok and 1 or 0
end
for index = 1, erased do
  redis.call('UNLINK', KEYS[2 + 2 * entries + index])
  redis.call('DEL', KEYS[2 + 2 * entries + erased + index])
end
return reply(accepted)
`;

export function toGetCall(space: string, request: GetRequest, bounds: Bounds): Call {
  const { since, nonce, keys, leaseMs } = request;
  const leases = leaseMs > 0 ? keys.map((key) => leaseKey(space, key)) : [];
  return {
    keys: [stateKey(space), touchedKey(space), ...keys.map((key) => entryKey(space, key)), ...leases],
    args: [since, nonce, bounds.items, bounds.listed, leaseMs, keys.length, bounds.replyBytes].map(String),
  };
}

export function toStoreCall(space: string, request: StoreRequest, bounds: Bounds): Call {
  const { token, since, nonce, from, to, changes, gotAtMs, entries, erased } = request;
  const numbers = [from, to, gotAtMs, bounds.marks, changes.length, entries.length, erased.length].map(String);
  return {
    keys: [
      stateKey(space),
      touchedKey(space),
      ...entries.map(({ key }) => entryKey(space, key)),
      ...entries.map(({ key }) => leaseKey(space, key)),
      ...erased.map((key) => entryKey(space, key)),
      ...erased.map((key) => leaseKey(space, key)),
    ],
    args: [
      ...[since, nonce, bounds.items, bounds.listed].map(String),
      token ?? '',
      ...numbers,
      ...changes.flatMap(({ item, tick }) => [item, String(tick)]),
      ...entries.flatMap(({ at, deps, ttlMs, body }) => [String(at), deps.join('\n'), String(Math.ceil(ttlMs)), body]),
    ],
  };
}

type RawReply<Last> = [string, string, string, string, string, 'RESET' | string[], Last];

export function readGetReply(raw: unknown): GetReply {
  const [, , , , , , found] = raw as RawReply<(string | [string, string, string])[]>;
  return {
    ...readReply(raw as RawReply<unknown>),
    found: found.map((one): Found => {
      if (typeof one === 'string') return one as Found;
      const [at, deps, body] = one;
      return { at: Number(at), deps: deps === '' ? [] : deps.split('\n'), body };
    }),
  };
}

export function readStoreReply(raw: unknown): StoreReply {
  const [, , , , , , accepted] = raw as RawReply<number[]>;
  return { ...readReply(raw as RawReply<unknown>), accepted: accepted.map((one) => one === 1) };
}

function readReply([inc, rev, applied, verifiedMs, nowMs, changed]: RawReply<unknown>): Reply {
  const touches: Touch[] = [];
  if (changed !== 'RESET') {
    for (let at = 0; at < changed.length; at += 2) {
      touches.push({ item: changed[at] as string, tick: Number(changed[at + 1]) });
    }
  }
  return {
    inc,
    rev: Number(rev),
    applied: Number(applied),
    verifiedMs: Number(verifiedMs),
    nowMs: Number(nowMs),
    changed: changed === 'RESET' ? 'reset' : touches,
  };
}
