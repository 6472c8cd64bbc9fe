import type { Order } from '../../lib/orders.ts';

// Five members, checked by hand: the schemas' library would be a third of what a worker loads at its start.
type Check = (value: unknown) => boolean;

const text =
  (lengthMax: number): Check =>
  (value) =>
    typeof value === 'string' && value.length >= 1 && value.length <= lengthMax;
const oneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value);

const place = { space: text(200), slot: text(240) };
const shapes: readonly Readonly<Record<string, Check>>[] = [
  { task: oneOf('index', 'work', 'synchronise'), ...place },
  { task: oneOf('run'), ...place, peer: text(200), runId: text(60), isForced: oneOf(true, false) },
];
const taskShape = {
  task: oneOf('warm', 'cleanup', 'reconcile', 'index', 'synchronise', 'work'),
  budgetMs: (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 1,
};

/** What a schedule asks for. */
export interface ScheduledTask {
  readonly task: 'warm' | 'cleanup' | 'reconcile' | 'index' | 'synchronise' | 'work';
  readonly budgetMs: number;
}

/** An order by the body of its message; undefined for what is none. */
export function readOrder(body: unknown): Order | undefined {
  const order = parse(body) as Order;
  const isOrder = shapes.some((shape) => hasShape(order, shape));
  return isOrder && order.slot.startsWith(`${order.space}@`) ? order : undefined;
}

/** @throws Error for an event that no schedule sends. */
export function readTask(event: unknown): ScheduledTask {
  if (hasShape(event, taskShape)) return event as ScheduledTask;
  throw new Error('The event has to be {task, budgetMs}, with a task of the schedules and a whole number from 1 on.');
}

function parse(body: unknown): unknown {
  try {
    return JSON.parse(String(body));
  } catch {
    return undefined;
  }
}

/** Whether these are its members, and no others. */
function hasShape(value: unknown, shape: Readonly<Record<string, Check>>): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const members = new Map(Object.entries(value));
  return (
    members.size === Object.keys(shape).length && Object.entries(shape).every(([name, is]) => is(members.get(name)))
  );
}
