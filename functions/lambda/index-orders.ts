import { takeOrders } from './take-orders.ts';

/** Takes orders from the queue of what is to be indexed. */
export const handler = await takeOrders(['index']);
