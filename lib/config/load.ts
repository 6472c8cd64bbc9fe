import { readFile } from 'node:fs/promises';
import { parseDocument } from 'yaml';
import { type Settings, settingsSchema } from './settings.ts';

/**
 * Reads the settings file once, at the start.
 *
 * @throws Error with one line a mistake: the file, the path of the key, what is wrong.
 */
export async function loadSettings(path: string): Promise<Settings> {
  const document = parseDocument(await readFile(path, 'utf8'));
  if (document.errors.length > 0) throw new Error(`${path}: ${document.errors[0]?.message}`);
  const result = settingsSchema.safeParse(document.toJS() ?? {});
  if (result.success) return result.data;
  const lines = result.error.issues.map((issue) => {
    const unknown = issue.code === 'unrecognized_keys' ? issue.keys : [undefined];
    return unknown.map((key) => {
      const where = [...issue.path, ...(key === undefined ? [] : [key])].join('.');
      return `${path}: ${where}: ${key === undefined ? issue.message : 'there is no such setting'}`;
    });
  });
  throw new Error(lines.flat().join('\n'));
}
