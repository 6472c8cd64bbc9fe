import { createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';

type Variables = Readonly<Record<string, string | undefined>>;

/**
 * The variables, and beside them what a deployment links: SST keeps secrets out of the environment of a function, encrypted in
 * a file of its bundle whose key the environment has. What the environment says itself counts.
 *
 * @throws Error where the file is not the one of that key.
 */
export function withLinks(variables: Variables): Variables {
  const { SST_KEY: key, SST_KEY_FILE: file } = variables;
  if (key === undefined || file === undefined) return variables;
  const links = JSON.parse(decrypt(readFileSync(file), Buffer.from(key, 'base64'))) as Record<string, Variables>;
  const linked = Object.entries(links['Environment'] ?? {}).filter(([name]) => /^[A-Z][A-Z0-9_]+$/.test(name));
  return { ...Object.fromEntries(linked), ...variables };
}

// As SST writes it: AES-256-GCM with a nonce of zeros under a key that is made anew for each stage, the tag at the end.
function decrypt(sealed: Buffer, key: Buffer): string {
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.alloc(12));
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]).toString();
}
