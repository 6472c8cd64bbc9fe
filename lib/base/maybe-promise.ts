/** A value at hand, or one to be waited for: to wait for what is at hand costs a request several turns. */
export type MaybePromise<Value> = Value | Promise<Value>;

/** What `next` makes of a value, at once where that is at hand; what `next` throws is thrown at once then, too. */
export function andThen<Value, Result>(
  value: MaybePromise<Value>,
  next: (value: Value) => MaybePromise<Result>,
): MaybePromise<Result> {
  return value instanceof Promise ? value.then(next) : next(value);
}
