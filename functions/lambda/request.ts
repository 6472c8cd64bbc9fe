import type { APIGatewayProxyEventV2 } from 'aws-lambda';

const bodiless = ['GET', 'HEAD'];

/**
 * A request under the name that its sender has used. CloudFront sends it to the address of the function, and tells that name
 * beside: what MCP says of itself, and whom it takes for a foreign page, depends on it.
 *
 * @returns undefined where no request can be made of it, such as with a method that none may have.
 * @throws Error for an event that no Function URL sends.
 */
export function readRequest(event: APIGatewayProxyEventV2): Request | undefined {
  if (event?.requestContext?.http === undefined || event.headers === undefined)
    throw new Error('The event is no request of a Function URL.');
  const { requestContext, rawPath, rawQueryString, body, isBase64Encoded } = event;
  const { method } = requestContext.http;
  const host = URL.parse(`https://${event.headers['x-forwarded-host']}`)?.host ?? requestContext.domainName;
  const headers: [string, string][] = [];
  for (const [name, value = ''] of Object.entries({ ...event.headers, host })) headers.push([name, toBytes(value)]);
  try {
    return new Request(`https://${host}${rawPath}${rawQueryString ? `?${rawQueryString}` : ''}`, {
      method,
      headers,
      body: body && !bodiless.includes(method) ? Buffer.from(body, isBase64Encoded ? 'base64' : 'utf8') : null,
    });
  } catch {
    return undefined;
  }
}

/** A header as it comes over the wire, each of its bytes a character. */
const toBytes = (text: string) => Buffer.from(text).toString('latin1');
