import { randomBytes } from 'node:crypto';
import type { Clock } from './clock.ts';

/** Makes identifiers; a dependency so that tests can foretell them. */
export interface Ids {
  /** 26 characters that sort by time of creation to the millisecond (a ULID in lower case). */
  sortable(): string;
  /** `length` random characters of 0–9 and a–z (5.17 bits each). */
  random(length: number): string;
}

// Crockford's base 32, in lower case: https://github.com/ulid/spec
const crockford = '0123456789abcdefghjkmnpqrstvwxyz';
const alphanumeric = '0123456789abcdefghijklmnopqrstuvwxyz';

// Random bytes are asked for in pieces of this many, since each request for them costs a microsecond.
const pooledBytes = 4096;

export function createIds(deps: { clock: Clock }): Ids {
  let pool = Buffer.alloc(0);
  let used = 0;
  let stampedMs = -1;
  let stamp = '';

  return {
    sortable() {
      const now = deps.clock();
      if (now !== stampedMs) {
        stampedMs = now;
        stamp = '';
        for (let digit = 0, time = now; digit < 10; digit++) {
          stamp = crockford[time % 32] + stamp;
          time = Math.floor(time / 32);
        }
      }
      if (used + 16 > pool.length) {
        pool = randomBytes(pooledBytes);
        used = 0;
      }
      let id = stamp;
      for (const end = used + 16; used < end; used++) id += crockford[(pool[used] as number) % 32];
      return id;
    },
    random(length) {
      let text = '';
      while (text.length < length) {
        // 252 is the greatest multiple of 36 in a byte: what lies above is dropped, so that no character is likelier.
        for (const byte of randomBytes(length)) if (byte < 252) text += alphanumeric[byte % 36];
      }
      return text.slice(0, length);
    },
  };
}
