import * as z from 'zod';
import { toDotPath } from 'zod/v4/core';
import type { Scope } from '../access/scopes.ts';
import { Problem } from '../base/problem.ts';
import { cutText } from '../base/text.ts';
import type { RequestContext } from '../contexts/request.ts';
import type { UnifiedContextManager } from '../unified-context-manager.ts';

/** Whoever speaks MCP to us: a space, what may be done there, and the store. */
export interface Session {
  readonly manager: UnifiedContextManager;
  /** Where the calls go; without the signal of the single call. */
  readonly request: RequestContext;
  readonly scopes: readonly Scope[];
}

/** What a tool answers; the text says the same as the structure. */
export interface ToolAnswer {
  readonly text: string;
  readonly structured: Readonly<Record<string, unknown>>;
  /** Contents too large to be told. */
  readonly links?: readonly ResourceLink[];
  /** What to do where the answer is too large, in one sentence. */
  readonly narrower?: string;
}

export interface ResourceLink {
  readonly uri: string;
  readonly name: string;
  readonly mimeType: string;
  /** In bytes. */
  readonly size: number;
}

/** A tool as data: what is listed and what is checked are the same. */
export interface Tool {
  readonly name: string;
  readonly scope: 'read' | 'write';
  /** As `tools/list` tells it. */
  readonly listed: {
    readonly name: string;
    readonly title: string;
    readonly description: string;
    readonly inputSchema: { readonly type: 'object' };
    readonly outputSchema: { readonly type: 'object' };
    readonly annotations: Readonly<Record<string, boolean>>;
  };
  /** Whether it belongs to the memory server's dialect, whose texts and errors are the reference's. */
  readonly isMemory: boolean;
  /** @throws Problem `invalid_request` for arguments that do not fit, and whatever the verb throws. */
  call(session: Session, args: unknown): Promise<ToolAnswer>;
}

/** What to do where a graph is too large to be told. */
export const narrowerGraph =
  'Search for something narrower, or open nodes by name; npm run export writes the whole graph to a file.';

/**
 * The one bound of all that is answered over MCP: a client reads at most 10 MiB of a message over stdio, and a result says
 * everything twice.
 *
 * @throws Problem `context_too_large` with `next`, what to do instead.
 */
export function requireFitting({ manager }: Session, result: unknown, next: string): void {
  const limitBytes = 2 * manager.settings.limits.inlineBytes;
  const sizeBytes = Buffer.byteLength(JSON.stringify(result));
  if (sizeBytes <= limitBytes) return;
  const message = `The answer would have ${sizeBytes} bytes, and ${limitBytes} are allowed. ${next}`;
  throw new Problem('context_too_large', message, { sizeBytes, limitBytes });
}

// Whoever makes more mistakes than this, or one that takes longer to tell, needs no list of all.
const issuesMax = 20;
const issueCharactersMax = 1000;

/**
 * Ties a tool's schemas to its handler.
 *
 * @param of.hints what the tool does to its surroundings; nothing it does reaches beyond the store.
 */
export function tool<Input extends z.ZodObject>(of: {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly scope: 'read' | 'write';
  readonly hints: { readonly mayWrite?: boolean; readonly isDestructive?: boolean; readonly isIdempotent?: boolean };
  readonly input: Input;
  readonly output: z.ZodObject;
  /** The JSON Schema dialect that is listed; the reference memory server lists `draft-7`. */
  readonly dialect?: 'draft-7' | 'draft-2020-12';
  readonly isMemory?: boolean;
  readonly handle: (session: Session, args: z.output<Input>) => Promise<ToolAnswer>;
}): Tool {
  const { name, title, description, scope, hints, input, output, dialect = 'draft-2020-12', isMemory = false } = of;
  const toSchema = (schema: z.ZodObject, io: 'input' | 'output') =>
    z.toJSONSchema(schema, { target: dialect, io, reused: 'inline', override: shorten }) as unknown as {
      type: 'object';
    };
  return {
    name,
    scope,
    isMemory,
    listed: {
      name,
      title,
      description,
      inputSchema: toSchema(input, 'input'),
      outputSchema: toSchema(output, 'output'),
      annotations: {
        readOnlyHint: scope === 'read' && !hints.mayWrite,
        destructiveHint: hints.isDestructive ?? false,
        idempotentHint: hints.isIdempotent ?? false,
        openWorldHint: false,
      },
    },
    call(session, args) {
      const parsed = parse(input, args ?? {});
      if (parsed.success) return of.handle(session, parsed.data);
      const what = `Invalid arguments for tool ${name}: ${printIssues(parsed.error.issues)}`;
      throw new Problem('invalid_request', `MCP error -32602: Input validation error: ${what}`);
    },
  };
}

/** @throws Problem `invalid_request` where there is more wrong with it than can be listed. */
function parse<Input extends z.ZodObject>(input: Input, args: unknown) {
  try {
    return input.safeParse(args);
  } catch (error) {
    // Zod passes what it has found on as the arguments of a call, and these have to fit on the stack.
    if (!(error instanceof RangeError)) throw error;
    throw new Problem('invalid_request', 'Too much in the arguments does not fit the input schema.');
  }
}

/** The words of the SDK that the reference memory server is built on; a good sentence for the other tools, too. */
function printIssues(issues: readonly z.core.$ZodIssue[]): string {
  const lines = issues
    .slice(0, issuesMax)
    .map(({ path, message }) => (path.length === 0 ? message : `${message} at ${toDotPath(path)}`))
    .map((line) => (line.length > issueCharactersMax ? `${cutText(line, issueCharactersMax)}…` : line));
  if (issues.length > issuesMax) lines.push(`… and ${issues.length - issuesMax} more`);
  return lines.join('\n');
}

/** The format says it in a word; the expression behind it is a page that a model would have to read. */
function shorten({ jsonSchema }: { readonly jsonSchema: { format?: string; pattern?: string } }): void {
  if (jsonSchema.format === 'date-time') delete jsonSchema.pattern;
}
