import * as z from 'zod';
import { type ProblemCode, problemTable } from '../base/problem.ts';
import type { Route } from './route.ts';
import { problemAnswer } from './schemas.ts';

type Json = Record<string, unknown>;

const tagDescriptions: Readonly<Record<string, string>> = {
  Contexts: 'Documents with an id, metadata and a place in a tree.',
  Trees: 'Parents and children, at most 32 deep.',
  Versions: 'The whole history of a context: read, compared, restored, pinned.',
  Uploads: 'Contents too large for one request, in parts.',
  Batches: 'Up to 100 contexts in one request and one transaction.',
  Feed: 'Every committed change, once, in order.',
  Merge: 'Contexts and contents joined by a strategy.',
  Events: "What the hooks of Factory's Droid tell, and what their agent is told.",
  Memory: 'What the memory tools of MCP remember.',
  'Keys and spaces': 'Tenants and their credentials.',
  Operations: 'Health, audit and maintenance.',
};

/** Problems that any route may answer with, beside its own. */
const commonProblems: readonly ProblemCode[] = ['invalid_request', 'internal', 'unavailable'];
const guardedProblems: readonly ProblemCode[] = ['unauthenticated', 'forbidden'];
const bodyProblems: readonly ProblemCode[] = ['unsupported_media_type', 'context_too_large', 'unprocessable'];

/** The OpenAPI 3.1 document of the routes: what they check is what it says. */
export function buildOpenApi(routes: readonly Route[], version: string): Json {
  const schemas: Json = {};
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const item = paths[route.path] ?? {};
    paths[route.path] = item;
    item[route.method] = describeRoute(route, schemas);
  }
  const tags = [...new Set(routes.map((route) => route.tag))].map((name) => ({
    name,
    description: tagDescriptions[name] ?? name,
  }));
  toSchema(problemAnswer(), 'output', schemas);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Lamina',
      version,
      summary: 'A serverless, versioned context store for AI agents',
      description:
        'Contexts with history and merge. Every write answers with `Context-Seq`, the tick of the space after it; a read that sends it back never sees an older state. Errors are RFC 9457 problems with a stable `code`. Every list takes `limit` and `cursor`.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/', description: 'This server' }],
    security: [{ bearer: [] }],
    tags,
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: '`lam_<space>_<key>_<secret>`, or the owner token.' },
      },
      schemas,
    },
  };
}

function describeRoute(route: Route, schemas: Json): Json {
  const responses: Json = {};
  for (const [status, answer] of Object.entries(route.answers)) {
    const content =
      answer.schema === undefined
        ? answer.contentType && { [answer.contentType]: {} }
        : {
            [answer.contentType ?? 'application/json']: {
              schema: toSchema(answer.schema(), 'output', schemas),
              ...(answer.example === undefined ? {} : { example: answer.example }),
            },
          };
    responses[status] = {
      description: answer.description,
      headers: answerHeaders(Number(status)),
      ...(content ? { content } : {}),
    };
  }
  for (const [status, codes] of problemsByStatus(route)) responses[status] = problemResponse(codes);
  return {
    operationId: route.operationId,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description
      ? { description: `${route.description}${scopeNote(route)}` }
      : { description: scopeNote(route).trim() }),
    ...(route.scope === null ? { security: [] } : {}),
    parameters: parameters(route, schemas),
    ...(route.body ? { requestBody: requestBody(route.body, schemas) } : {}),
    responses,
  };
}

function scopeNote({ scope }: Route): string {
  if (scope === null) return ' Needs no token.';
  return scope === 'owner' ? " Needs the owner's token." : ` Scope \`${scope}\`.`;
}

function parameters(route: Route, schemas: Json): Json[] {
  const list: Json[] = [];
  const add = (place: 'path' | 'query', schema: z.ZodObject | undefined) => {
    for (const [name, field] of Object.entries(schema?.shape ?? {})) {
      const described = toSchema(field as z.ZodType, 'input', schemas);
      const { description, ...rest } = described;
      const isRequired = place === 'path' || !(field as z.ZodType).safeParse(undefined).success;
      list.push({ name, in: place, required: isRequired, ...(description ? { description } : {}), schema: rest });
    }
  };
  add('path', route.params?.());
  add('query', route.query?.());
  const header = (name: string, description: string) =>
    list.push({ name, in: 'header', required: false, description, schema: { type: 'string' } });
  for (const [name, description] of Object.entries(route.headers ?? {})) header(name, description);
  if (route.scope === null) return list;
  if (route.method === 'get') header('Context-Seq', 'Answer with nothing older than this tick.');
  else
    header(
      'Idempotency-Key',
      'The same key with the same request within 24 hours gives the first answer and writes nothing.',
    );
  if (route.method !== 'get') header('Prefer', '`return=minimal` leaves the content out of the answer.');
  return list;
}

function requestBody(body: NonNullable<Route['body']>, schemas: Json): Json {
  const schema = body.schema === undefined ? {} : { schema: toSchema(body.schema(), 'input', schemas) };
  const example = body.example === undefined ? {} : { example: body.example };
  const content = Object.fromEntries(body.types.map((type) => [type, { ...schema, ...example }]));
  return { required: !body.isOptional, content };
}

function answerHeaders(status: number): Json {
  const text = (description: string) => ({ description, schema: { type: 'string' } });
  return {
    'X-Request-Id': text('Finds this request in the logs; one that is sent is kept.'),
    'Server-Timing': text('Milliseconds in each engine touched.'),
    'Context-Seq': { description: 'A tick as of which the answer is true.', schema: { type: 'integer' } },
    ...(status < 400
      ? {
          ETag: text(
            'The version, such as `"7"`, or `"7-gzip"` where the answer is compressed so; either serves `If-Match`.',
          ),
        }
      : {}),
  };
}

/** Every code a route may answer with. */
export function problemCodes(route: Route): ProblemCode[] {
  const codes = new Set<ProblemCode>([
    ...route.problems,
    ...commonProblems,
    ...(route.scope === null ? [] : guardedProblems),
    ...(route.body ? bodyProblems : []),
  ]);
  return [...codes];
}

function problemsByStatus(route: Route): [string, ProblemCode[]][] {
  const byStatus = new Map<string, ProblemCode[]>();
  for (const code of problemCodes(route)) {
    const status = String(problemTable[code].status);
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return [...byStatus].sort(([left], [right]) => Number(left) - Number(right));
}

function problemResponse(codes: readonly ProblemCode[]): Json {
  const example = (code: ProblemCode) => {
    const { status, title } = problemTable[code];
    return { type: `https://lamina.dev/problems/${code}`, title, status, detail: title, code, requestId: '01k9x7' };
  };
  return {
    description: codes.map((code) => `\`${code}\`: ${problemTable[code].title}.`).join(' '),
    headers: answerHeaders(400),
    content: {
      'application/problem+json': {
        schema: { $ref: '#/components/schemas/Problem' },
        examples: Object.fromEntries(codes.map((code) => [code, { value: example(code) }])),
      },
    },
  };
}

/** The JSON Schema of a zod schema; schemas with an id are collected and referred to. */
function toSchema(schema: z.ZodType, io: 'input' | 'output', schemas: Json): Json {
  const {
    $schema: _,
    $defs,
    ...described
  } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    reused: 'inline',
    override: ({ jsonSchema }) => {
      delete jsonSchema['id'];
      delete jsonSchema['rawJson'];
    },
  }) as Json & { $defs?: Json };
  for (const [name, definition] of Object.entries($defs ?? {})) schemas[name] ??= relocate(definition);
  const id = schema.meta()?.id;
  if (id === undefined) return relocate(described) as Json;
  if (!('$ref' in described)) schemas[id] ??= relocate(described);
  return { $ref: `#/components/schemas/${id}` };
}

function relocate(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(relocate);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [
      key,
      key === '$ref' && typeof member === 'string'
        ? member.replace('#/$defs/', '#/components/schemas/')
        : relocate(member),
    ]),
  );
}
