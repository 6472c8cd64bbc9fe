import { isJsonObject, isSameJson, type Json, type JsonObject } from '../base/json.ts';
import { jsonDepthMax } from '../base/json-parse.ts';
import { invalid, Problem } from '../base/problem.ts';

/** RFC 7396: members replace members, null removes, anything that is no object replaces the whole. */
export function applyMergePatch(target: Json, patch: Json): Json {
  if (!isJsonObject(patch)) return patch;
  const merged: JsonObject = new Map(isJsonObject(target) ? target : []);
  for (const [key, value] of patch) {
    if (value === null) merged.delete(key);
    else merged.set(key, applyMergePatch(merged.get(key) ?? null, value));
  }
  return merged;
}

/** More operations than this are refused. */
export const patchOperationsMax = 10_000;
// What `copy` may add in all, in characters: a few operations could otherwise double a document thirty times.
const copiedCharactersMax = 10_485_760;

/**
 * RFC 6902: the operations in order, all or none. The target is not changed.
 *
 * @throws Problem `invalid_request` where the patch is no JSON Patch.
 * @throws Problem `unprocessable` where an operation does not fit the target or a `test` fails; names the operation.
 */
export function applyJsonPatch(target: Json, patch: Json): Json {
  if (!Array.isArray(patch)) throw invalid('', 'a JSON Patch is an array of operations');
  if (patch.length > patchOperationsMax) throw invalid('', `a JSON Patch has at most ${patchOperationsMax} operations`);
  const editor = createEditor(target);
  patch.forEach((operation, index) => {
    applyOperation(editor, operation, index);
  });
  return editor.document();
}

function applyOperation(editor: ReturnType<typeof createEditor>, operation: Json, index: number): void {
  if (!isJsonObject(operation)) throw invalid(`/${index}`, 'an operation is an object');
  const op = operation.get('op');
  const path = () => readPointer(operation, 'path', index);
  const from = () => readPointer(operation, 'from', index);
  const value = () => {
    const given = operation.get('value');
    if (given === undefined) throw invalid(`/${index}/value`, 'is required');
    return given;
  };
  editor.at(index, String(op));
  switch (op) {
    case 'add':
      editor.put(path(), value(), 'insert');
      break;
    case 'remove':
      editor.remove(path());
      break;
    case 'replace':
      editor.put(path(), value(), 'replace');
      break;
    case 'move':
      editor.move(from(), path());
      break;
    case 'copy':
      editor.copy(from(), path());
      break;
    case 'test':
      editor.test(path(), value());
      break;
    default:
      throw invalid(`/${index}/op`, 'is one of add, remove, replace, move, copy, test');
  }
}

function readPointer(operation: JsonObject, member: 'path' | 'from', index: number): string[] {
  const text = operation.get(member);
  if (typeof text !== 'string') throw invalid(`/${index}/${member}`, 'is a JSON Pointer');
  if (text === '') return [];
  if (!text.startsWith('/') || /~[^01]|~$/.test(text)) throw invalid(`/${index}/${member}`, 'is no JSON Pointer');
  return text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** A document under edit: containers are copied when they are first written to, so that a patch costs what it touches. */
function createEditor(target: Json) {
  const owned = new Set<Json>();
  let root = target;
  let label = '';
  let errorPath = '';
  let copied = 0;

  function unfit(why: string): Problem {
    return new Problem('unprocessable', `Operation ${label}: ${why}.`, { errors: [{ path: errorPath, message: why }] });
  }

  function toIndex(token: string, max: number): number {
    if (/^(0|[1-9]\d{0,9})$/.test(token) && Number(token) <= max) return Number(token);
    throw unfit(`${JSON.stringify(token)} is no place in the array`);
  }

  function step(at: Json, token: string): Json {
    const next = Array.isArray(at) ? at[toIndex(token, at.length - 1)] : isJsonObject(at) ? at.get(token) : undefined;
    if (next === undefined) throw unfit('the path leads nowhere');
    return next;
  }

  function own(value: Json): JsonObject | Json[] {
    if (!Array.isArray(value) && !isJsonObject(value)) throw unfit('the path leads into a value that holds nothing');
    if (owned.has(value)) return value;
    const copy = Array.isArray(value) ? [...value] : new Map(value);
    owned.add(copy);
    return copy;
  }

  function ownParent(path: readonly string[]): JsonObject | Json[] {
    let parent = own(root);
    root = parent;
    for (const token of path.slice(0, -1)) {
      const next = own(step(parent, token));
      if (Array.isArray(parent)) parent[toIndex(token, parent.length - 1)] = next;
      else parent.set(token, next);
      parent = next;
    }
    return parent;
  }

  function clone(value: Json, depth: number): Json {
    if (depth > jsonDepthMax) throw unfit(`nesting is at most ${jsonDepthMax}`);
    copied += typeof value === 'string' ? value.length + 2 : 1;
    if (copied > copiedCharactersMax) throw unfit('the copies grow too large');
    if (Array.isArray(value)) return value.map((element) => clone(element, depth + 1));
    if (!isJsonObject(value)) return value;
    return new Map(
      [...value].map(([key, member]) => {
        copied += key.length + 3;
        return [key, clone(member, depth + 1)];
      }),
    );
  }

  const find = (path: readonly string[]) => path.reduce<Json>(step, root);

  const editor = {
    /** @throws Problem `unprocessable` where moves have nested it too deep. */
    document(): Json {
      if (isDeeper(root, jsonDepthMax)) throw unfit(`nesting is at most ${jsonDepthMax}`);
      return root;
    },

    at(index: number, op: string): void {
      label = `${index} (${op})`;
      errorPath = `/${index}`;
    },

    put(path: readonly string[], value: Json, how: 'insert' | 'replace'): void {
      if (how === 'replace') find(path);
      const token = path.at(-1);
      if (token === undefined) {
        root = value;
        return;
      }
      const parent = ownParent(path);
      if (!Array.isArray(parent)) parent.set(token, value);
      else if (how === 'replace') parent[toIndex(token, parent.length - 1)] = value;
      else parent.splice(token === '-' ? parent.length : toIndex(token, parent.length), 0, value);
    },

    remove(path: readonly string[]): void {
      const token = path.at(-1);
      if (token === undefined) throw unfit('the whole document cannot be removed');
      const parent = ownParent(path);
      if (Array.isArray(parent)) parent.splice(toIndex(token, parent.length - 1), 1);
      else if (!parent.delete(token)) throw unfit('the path leads nowhere');
    },

    move(from: readonly string[], path: readonly string[]): void {
      const isInside = from.length < path.length && from.every((token, at) => token === path[at]);
      if (isInside) throw unfit('a value cannot be moved into itself');
      const moved = find(from);
      if (from.length === path.length && from.every((token, at) => token === path[at])) return;
      editor.remove(from);
      editor.put(path, moved, 'insert');
    },

    copy(from: readonly string[], path: readonly string[]): void {
      editor.put(path, clone(find(from), path.length), 'insert');
    },

    test(path: readonly string[], value: Json): void {
      if (!isSameJson(find(path), value)) throw unfit('the value there is another');
    },
  };
  return editor;
}

/** Whether containers are nested more than `depth` deep; looks without recursion, since that is what is in question. */
function isDeeper(value: Json, depth: number): boolean {
  const stack: [Json, number][] = [[value, 1]];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const [container, level] = next;
    const members = Array.isArray(container) ? container : isJsonObject(container) ? container.values() : undefined;
    if (members === undefined) continue;
    if (level > depth) return true;
    for (const member of members) if (typeof member === 'object' && member !== null) stack.push([member, level + 1]);
  }
  return false;
}
