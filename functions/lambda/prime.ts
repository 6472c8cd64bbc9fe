import type { App } from './answer.ts';

/**
 * Has a first request answered before there is one, while a function that starts has a whole processor to itself: Node loads
 * what requests are made of with the first, and so do routes and schemas. The id is none, so it is checked, refused, and
 * nobody is asked.
 */
export async function primeApp(app: App, token: string): Promise<void> {
  const headers = { authorization: `Bearer ${token}` };
  const request = new Request('https://localhost/v1/contexts/-', { headers });
  const { body } = await app.fetch(request, { leftMs: Number.POSITIVE_INFINITY });
  for await (const _piece of body ?? []);
}
