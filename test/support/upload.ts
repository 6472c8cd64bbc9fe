import { randomBytes } from 'node:crypto';
import type { TestStore } from './client.ts';

/** The largest content there is. */
export const wholeBytes = 10_485_760;
export const partBytes = 4_194_304;

/** Text that no compression makes half as small, in lines. */
export function randomText(sizeBytes: number): string {
  return randomBytes(sizeBytes).toString('base64').replace(/.{90}/g, '$&\n').slice(0, sizeBytes);
}

export function cut(content: Uint8Array | string, part: number): Buffer {
  return Buffer.from(content).subarray((part - 1) * partBytes, part * partBytes);
}

/** Sends a content in parts through any door that fetches; answers with the upload's id. */
export async function uploadTo(
  send: (method: string, path: string, body: string | Uint8Array<ArrayBuffer>) => Promise<Response>,
  content: string,
  contentType: string,
): Promise<string> {
  const sizeBytes = Buffer.byteLength(content);
  const begun = await send('POST', '/v1/uploads', JSON.stringify({ sizeBytes, contentType }));
  const { uploadId, parts } = (await begun.json()) as { uploadId: string; parts: number };
  for (let part = 1; part <= parts; part++) {
    const answer = await send('PUT', `/v1/uploads/${uploadId}/parts/${part}`, Uint8Array.from(cut(content, part)));
    if (!answer.ok) throw new Error(await answer.text());
  }
  return uploadId;
}

/** Writes a context whose content is too large for one request. */
export async function putLarge(
  store: TestStore,
  id: string,
  content: string,
  body: { contentType?: string; [name: string]: unknown } = {},
) {
  const { contentType = 'text/plain', ...rest } = body;
  const send = (method: string, path: string, sent: string | Uint8Array<ArrayBuffer>) =>
    store.fetch(
      new Request(`http://lamina.test${path}`, {
        method,
        headers: { authorization: `Bearer ${store.token}`, 'content-type': 'application/json' },
        body: sent,
      }),
    );
  const upload = await uploadTo(send, content, contentType);
  return store.send('PUT', `/v1/contexts/${id}`, { body: { upload, ...rest } });
}
