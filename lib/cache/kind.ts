/** What a cached thing is: how it travels to layer 2 and back, and what it weighs. */
export interface Kind<Value> {
  /** Stands before every key of the kind; no two kinds share one. */
  readonly name: string;
  readonly ttlMs: number;
  /** Text for layer 2, or null for what does not belong there, such as one that is too large. */
  encode(value: Value, id: string): string | null;
  /** @throws for what `encode` has not made of the value of `id`: another format's, a foreign one, a damaged one. */
  decode(text: string, id: string): Value;
  bytesOf(value: Value): number;
  /** From when on the value is not to be served, in milliseconds since 1970; null never. */
  expiresMs(value: Value): number | null;
}
