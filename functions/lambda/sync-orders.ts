import { takeOrders } from './take-orders.ts';

/** Takes orders from the queue of what peers and hook events need. */
export const handler = await takeOrders(['sync', 'factory']);
