/** What a credential may do; each scope holds those before it. `owner` is the token of the server itself. */
export const scopes = ['read', 'write', 'sync', 'admin'] as const;
export type Scope = (typeof scopes)[number];

/** Whether any of the `held` scopes reaches as far as `needed`. */
export function reaches(held: readonly Scope[], needed: Scope): boolean {
  const least = scopes.indexOf(needed);
  return held.some((scope) => scopes.indexOf(scope) >= least);
}
