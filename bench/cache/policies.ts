import { LRUCache } from 'lru-cache';
import type { Report } from '../report.ts';

/** A cache of so many objects that says whether it had one, and takes it in. */
type Policy = (capacity: number) => (key: number) => boolean;

const lru: Policy = (capacity) => {
  const cache = new LRUCache<number, true>({ max: Math.max(capacity, 1) });
  return (key) => {
    if (cache.get(key)) return true;
    cache.set(key, true);
    return false;
  };
};

/** S3-FIFO: https://dl.acm.org/doi/10.1145/3600006.3613147, a small queue of a tenth, a main one, and a ghost of keys. */
const s3fifo: Policy = (capacity) => {
  const smallMax = Math.max(Math.floor(capacity / 10), 1);
  const mainMax = Math.max(capacity - smallMax, 1);
  const [small, main, ghost] = [new Map<number, number>(), new Map<number, number>(), new Set<number>()];
  const first = (queue: Map<number, number>) => queue.entries().next().value as [number, number];
  const evictMain = () => {
    while (main.size >= mainMax) {
      const [key, uses] = first(main);
      main.delete(key);
      if (uses === 0) return;
      main.set(key, uses - 1);
    }
  };
  const evictSmall = () => {
    while (small.size >= smallMax) {
      const [key, uses] = first(small);
      small.delete(key);
      if (uses > 0) {
        evictMain();
        main.set(key, 0);
      } else {
        ghost.add(key);
        if (ghost.size > mainMax) ghost.delete(ghost.values().next().value as number);
        return;
      }
    }
  };
  return (key) => {
    for (const queue of [small, main]) {
      const uses = queue.get(key);
      if (uses === undefined) continue;
      queue.set(key, Math.min(uses + 1, 3));
      return true;
    }
    if (ghost.delete(key)) {
      evictMain();
      main.set(key, 0);
    } else {
      evictSmall();
      small.set(key, 0);
    }
    return false;
  };
};

/** What no policy can better: the object whose next use is farthest goes (Belady 1966). */
function belady(trace: readonly number[], capacity: number): number {
  const next = new Array<number>(trace.length);
  const last = new Map<number, number>();
  for (let at = trace.length - 1; at >= 0; at--) {
    const key = trace[at] as number;
    next[at] = last.get(key) ?? Number.POSITIVE_INFINITY;
    last.set(key, at);
  }
  // Next uses in buckets would be faster; a sorted array of what is held is simple, and traces here are short.
  const held = new Map<number, number>();
  const queue: { key: number; use: number }[] = [];
  const push = (one: { key: number; use: number }) => {
    queue.push(one);
    for (let at = queue.length - 1; at > 0; ) {
      const up = (at - 1) >> 1;
      if ((queue[up]?.use ?? 0) >= (queue[at]?.use ?? 0)) break;
      [queue[up], queue[at]] = [queue[at] as typeof one, queue[up] as typeof one];
      at = up;
    }
  };
  const pop = () => {
    const top = queue[0] as { key: number; use: number };
    const end = queue.pop() as { key: number; use: number };
    if (queue.length > 0) {
      queue[0] = end;
      for (let at = 0; ; ) {
        const [left, right] = [2 * at + 1, 2 * at + 2];
        let best = at;
        if ((queue[left]?.use ?? -1) > (queue[best]?.use ?? -1)) best = left;
        if ((queue[right]?.use ?? -1) > (queue[best]?.use ?? -1)) best = right;
        if (best === at) break;
        [queue[best], queue[at]] = [queue[at] as typeof end, queue[best] as typeof end];
        at = best;
      }
    }
    return top;
  };
  let hits = 0;
  trace.forEach((key, at) => {
    if (held.has(key)) hits++;
    held.set(key, next[at] as number);
    push({ key, use: next[at] as number });
    while (held.size > capacity) {
      const { key: victim, use } = pop();
      // What was used again since has another place in the queue.
      if (held.get(victim) === use) held.delete(victim);
    }
  });
  return hits / trace.length;
}

const rate = (trace: readonly number[], policy: Policy, capacity: number) => {
  const take = policy(capacity);
  return trace.reduce((hits, key) => hits + (take(key) ? 1 : 0), 0) / trace.length;
};

/** Numbers from 0 to 1, the same each run (mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Objects with popularity 1/rank^skew. */
function zipf(length: number, objects: number, skew: number): number[] {
  const random = generator(7);
  const sums: number[] = [];
  for (let rank = 1; rank <= objects; rank++) sums.push((sums.at(-1) ?? 0) + rank ** -skew);
  const total = sums.at(-1) as number;
  return Array.from({ length }, () => {
    const wanted = random() * total;
    let [low, high] = [0, objects - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] as number) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  });
}

/**
 * Agents at work: each session belongs to one of the projects (popularity Zipf 0.9), reads its instructions and notes
 * again and again (most of them the first few), now and then what every project shares, and its own session context all
 * the time. Twelve sessions run at once; one that ends makes room for the next.
 */
const agents = { requests: 200_000, projects: 300, notes: 25, shared: 50, together: 12, perSession: 120 };

export function agentTrace(): number[] {
  const random = generator(11);
  const projects = zipf(20_000, agents.projects, 0.9);
  let sessions = 0;
  const begin = () => {
    const project = projects[sessions % projects.length] as number;
    return { id: ++sessions, project, left: Math.ceil(agents.perSession * (0.5 + random())) };
  };
  const running = Array.from({ length: agents.together }, begin);
  return Array.from({ length: agents.requests }, () => {
    const at = Math.floor(random() * running.length);
    const session = running[at] as ReturnType<typeof begin>;
    if (--session.left <= 0) running[at] = begin();
    const what = random();
    if (what < 0.3) return 10_000_000 + session.id;
    if (what < 0.4) return 20_000_000 + Math.floor(agents.shared * random() ** 2);
    return session.project * 1000 + Math.floor(agents.notes * random() ** 2);
  });
}

/** Hit rates of eviction policies beside the optimum, and what two layers make of an agents' day. */
export async function* benchPolicies(): AsyncGenerator<Report> {
  const traces = [
    ['Zipf 0.8', zipf(200_000, 20_000, 0.8)],
    ['Zipf 1.0', zipf(200_000, 20_000, 1)],
    ['agents', agentTrace()],
  ] as const;
  const lines: Report['lines'][number][] = [];
  for (const [name, trace] of traces) {
    const unique = new Set(trace).size;
    for (const share of [0.01, 0.1, 0.2]) {
      const capacity = Math.ceil(unique * share);
      lines.push({
        trace: name,
        'cache %': 100 * share,
        'LRU %': 100 * rate(trace, lru, capacity),
        'S3-FIFO %': 100 * rate(trace, s3fifo, capacity),
        'Belady %': 100 * belady(trace, capacity),
        'ceiling %': 100 * (1 - unique / trace.length),
      });
    }
  }
  yield {
    name: 'cache-policies',
    about: 'hit rates, the cache holding a share of the unique objects; the ceiling is an endless cache',
    lines,
    targets: [],
  };

  const trace = agentTrace();
  const unique = new Set(trace).size;
  const random = generator(3);
  const layered: Report['lines'][number][] = [];
  let combined = 0;
  for (const instances of [1, 5, 20]) {
    const first = Array.from({ length: instances }, () => lru(Math.ceil(unique * 0.05)));
    const second = lru(Math.ceil(unique * 0.5));
    let [near, far] = [0, 0];
    for (const key of trace) {
      const take = first[Math.floor(random() * instances)] as (key: number) => boolean;
      if (take(key)) near++;
      else if (second(key)) far++;
    }
    const both = (near + far) / trace.length;
    if (instances === 5) combined = both;
    layered.push({
      instances,
      'L1 %': (100 * near) / trace.length,
      'L2 %': (100 * far) / trace.length,
      'together %': 100 * both,
      'optimum %': 100 * belady(trace, Math.ceil(unique * 0.5)),
      'ceiling %': 100 * (1 - unique / trace.length),
    });
  }
  const ceiling = 1 - unique / trace.length;
  yield {
    name: 'cache-agents',
    about: `${agents.requests} reads of ${agents.together} agents at a time over ${agents.projects} projects, at random instances; layer 1 holds 5 % of the objects, layer 2 half`,
    lines: layered,
    targets: [
      { what: `a workload whose ceiling is at least 92 % (${(100 * ceiling).toFixed(1)})`, isMet: ceiling >= 0.92 },
      {
        what: `five instances answer at least 85 % from the caches (${(100 * combined).toFixed(1)})`,
        isMet: combined >= 0.85,
      },
    ],
  };
}
