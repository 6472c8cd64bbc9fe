import type { APIGatewayProxyEventV2 } from 'aws-lambda';

/**
 * A request under the name that its sender has used. CloudFront sends it to the address of the function, and tells that name
 * beside: what MCP says of itself, and whom it takes for a foreign page, depends on it.
 *
 * @throws Error for an event that no Function URL sends.
 */
export function asSent(event: APIGatewayProxyEventV2): APIGatewayProxyEventV2 {
  if (event?.requestContext?.http === undefined || event.headers === undefined)
    throw new Error('The event is no request of a Function URL.');
  const host = event.headers['x-forwarded-host'];
  if (host === undefined || !/^[a-z0-9.-]+(:\d{1,5})?$/i.test(host)) return event;
  const { requestContext, headers } = event;
  return { ...event, headers: { ...headers, host }, requestContext: { ...requestContext, domainName: host } };
}
