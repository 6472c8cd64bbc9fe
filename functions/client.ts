/** An answer of the store, read to its end. */
export interface Reply<Body> {
  readonly status: number;
  /** The problem's sentence where the status is 400 or above. */
  readonly problem: string | undefined;
  readonly seq: number;
  /** In the shape that the OpenAPI document gives it, where there is no problem. */
  readonly json: Body;
}

/** The HTTP interface of a store, in this process or another. */
export interface Client {
  /** Sends `body` as JSON and reads the answer; a problem is an answer, too. @throws Error where none comes that could be Lamina's. */
  send<Body>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Reply<Body>>;
  /** As `send`, where anything but success ends the program. @throws Error with the problem's sentence. */
  expect<Body>(method: string, path: string, body?: unknown): Promise<Reply<Body>>;
}

/** @param deps.fetch what carries a request: the global `fetch`, or an app in this process. */
export function createClient(deps: {
  url: string;
  token: string;
  fetch: (request: Request) => Promise<Response>;
}): Client {
  const client: Client = {
    async send<Body>(method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) {
      const request = new Request(new URL(path, deps.url), {
        method,
        headers: {
          authorization: `Bearer ${deps.token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const response = await deps.fetch(request);
      const text = await response.text().catch((error: Error) => {
        throw new Error(`${deps.url} has broken off its answer: ${error.message}`);
      });
      const json = parseObject(text) as (Body & { detail?: string }) | undefined;
      if (json === undefined) throw new Error(`${deps.url} answers, but is no Lamina.`);
      const problem = response.ok ? undefined : (json.detail ?? `HTTP ${response.status}`);
      return { status: response.status, problem, seq: Number(response.headers.get('context-seq') ?? 0), json };
    },
    async expect<Body>(method: string, path: string, body?: unknown) {
      const reply = await client.send<Body>(method, path, body);
      if (reply.problem !== undefined) throw new Error(`${method} ${path}: ${reply.problem}`);
      return reply;
    },
  };
  return client;
}

function parseObject(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
