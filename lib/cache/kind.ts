/** What a cached thing is: how it travels to layer 2 and back, and what it weighs. */
export interface Kind<Value> {
  /** Stands before every key of the kind, which is `<name>:<id>`; no two kinds share one. */
  readonly name: string;
  /** The layers that keep it; without any it is loaded each time, and layer 2 not asked. */
  readonly layers: readonly ('l1' | 'l2' | 'l3')[];
  /** Whether each instance loads it by itself, instead of waiting for another that is loading it. */
  readonly isUnleased?: boolean;
  /** How long layers 2 and 3 keep a value; frees room, validity is by tick. */
  ttlMs(value: Value): number;
  /** Text for layers 2 and 3, or null for what does not belong there, such as one that is too large. */
  encode(value: Value, id: string): Promise<string | null>;
  /** @throws for what `encode` has not made of the value of `id`: another format's, a foreign one, a damaged one. */
  decode(text: string, id: string): Value;
  bytesOf(value: Value): number;
  /** From when on the value is not to be served, in milliseconds since 1970; null never. */
  expiresMs(value: Value): number | null;
}

export const keyOf = (kind: { readonly name: string }, id: string) => `${kind.name}:${id}`;
