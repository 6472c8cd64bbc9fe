import { sha256 } from '../base/hash.ts';
import { type Json, type JsonObject, printPlain, toPlain } from '../base/json.ts';
import { parseJsonKeeping } from '../base/json-parse.ts';
import { Problem } from '../base/problem.ts';
import { type AskOptions, type LaminaCalls, readBody, toProblem } from './lamina-calls.ts';
import { type Raws, rawKeys, toSent } from './lamina-json.ts';
import type { Value } from './value.ts';

// An upload or a context without its content, or a problem.
const answerBytesMax = 1_048_576;

/**
 * Has another Lamina take a value whose content is too large for a batch: by an upload, part by part.
 *
 * @param of.ifVersion the version that was seen there; 0 where there was none.
 * @returns what a batch would tell of it: `{context}` or `{problem}`, and how it is spelled.
 */
export async function pushByUpload(
  calls: LaminaCalls,
  { id, to }: { readonly id: string; readonly to: Value },
  of: { readonly ifVersion: number; readonly root: string | undefined },
): Promise<{ result: JsonObject; raws: Raws }> {
  const { bytes, contentType } = to;
  const begun = await tell(calls, '/v1/uploads', {
    body: JSON.stringify({ sizeBytes: bytes.length, contentType, hash: `sha256:${sha256(bytes)}` }),
  });
  if (!begun.isGood) return begun;
  const { uploadId, partBytes } = toPlain(begun.value) as { uploadId?: unknown; partBytes?: unknown };
  if (typeof uploadId !== 'string' || !/^\w{1,200}$/.test(uploadId) || !(Number(partBytes) >= 65_536))
    throw new Problem('unprocessable', 'The peer begins an upload that is none: is it a Lamina?');
  const path = `/v1/uploads/${uploadId}`;
  // What it did not take would wait there, and be counted, until its time is over.
  const drop = () =>
    calls.ask(path, { method: 'DELETE' }).then(
      ({ status }) => status < 500,
      () => false,
    );
  try {
    const heard = await sendParts(calls, { id, to }, { ...of, uploadId, partBytes: Number(partBytes) });
    if (!heard.isGood) await drop();
    return heard;
  } catch (error) {
    const isThere = await drop();
    // Whoever stands before it may fail at what is large; it answers what is small, so that is about this item alone.
    if (isThere && error instanceof Problem && error.code === 'unavailable') return refusedWith(error.message);
    throw error;
  }
}

async function sendParts(
  calls: LaminaCalls,
  { id, to }: { readonly id: string; readonly to: Value },
  of: {
    readonly ifVersion: number;
    readonly root: string | undefined;
    readonly uploadId: string;
    readonly partBytes: number;
  },
): Promise<Heard> {
  const { ifVersion, root, uploadId, partBytes } = of;
  const { bytes } = to;
  for (let start = 0, part = 1; start < bytes.length; start += partBytes, part++) {
    const body = bytes.subarray(start, start + partBytes);
    const kept = await tell(calls, `/v1/uploads/${uploadId}/parts/${part}`, { method: 'PUT', body });
    if (!kept.isGood) return kept;
  }
  const none = new Uint8Array();
  const sent = toSent(id, { ...to, bytes: none }, ifVersion, root) as Record<string, unknown>;
  const { op: _op, id: _id, ifVersion: _version, content: _content, contentType: _type, ...rest } = sent;
  return tell(calls, `/v1/contexts/${id}`, {
    method: 'PUT',
    headers: {
      prefer: 'return=minimal',
      ...(ifVersion > 0 ? { 'if-match': `"${ifVersion}"` } : { 'if-none-match': '*' }),
    },
    body: printPlain({ ...rest, upload: uploadId }),
  });
}

interface Heard {
  readonly isGood: boolean;
  readonly value: Json;
  readonly result: JsonObject;
  readonly raws: Raws;
}

/** What the other side answers, refused or not. @throws Problem where it does not answer, or not as a Lamina does. */
async function tell(calls: LaminaCalls, path: string, how: AskOptions): Promise<Heard> {
  const response = await calls.ask(path, how);
  const { ok: isGood, status } = response;
  if (status >= 500 || status === 401 || status === 403) throw toProblem(status);
  const text = (await readBody(response, answerBytesMax))?.toString() ?? '';
  try {
    const { value, raws } = parseJsonKeeping(text, rawKeys);
    return { isGood, value, result: new Map([[isGood ? 'context' : 'problem', value]]), raws };
  } catch (error) {
    // Whoever stands before it may refuse what is large, in words of its own: that is about this item alone.
    if (!isGood) return refusedWith(`it answers with status ${status}`);
    throw new Problem('unprocessable', 'The peer answers with no JSON: is it a Lamina?', {}, error);
  }
}

function refusedWith(detail: string): Heard {
  const value = new Map<string, Json>([
    ['code', 'refused'],
    ['detail', detail],
  ]);
  return { isGood: false, value, result: new Map([['problem', value]]), raws: new Map() };
}
