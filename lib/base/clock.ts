/** Milliseconds since 1970 (UTC), as `Date.now`; a dependency so that tests can hold time still. */
export type Clock = () => number;

export const systemClock: Clock = () => Date.now();
