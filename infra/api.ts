import { createFunction, type Made } from './functions.ts';
import { ordering, type Running } from './running.ts';
import type { Stage } from './stage.ts';

// Longer than the longest wait for changes; what streams for longer is taken up again by whoever listens.
const answerSeconds = 60;

/** The door: CloudFront, with a name of one's own where there is one, in front of a function that streams. */
export function createApi(stage: Stage, running: Running): { made: Made; url: $util.Output<string> } {
  const router = new sst.aws.Router('Router', {
    ...(stage.domain === undefined ? {} : { domain: stage.domain }),
    transform: {
      // Answers depend on who asks: nothing is kept at the edge, and tags and encodings are ours alone.
      cachePolicy(args) {
        args.maxTtl = 0;
        args.parametersInCacheKeyAndForwardedToOrigin = {
          cookiesConfig: { cookieBehavior: 'none' },
          headersConfig: { headerBehavior: 'none' },
          queryStringsConfig: { queryStringBehavior: 'none' },
        };
      },
      cdn(args) {
        args.defaultCacheBehavior = $util
          .output(args.defaultCacheBehavior)
          .apply((all) => ({ ...all, compress: false }));
      },
    },
  });
  const made = createFunction(stage, 'Api', {
    ...ordering(running),
    entry: 'api',
    description: 'Answers over HTTP and MCP',
    memory: '1024 MB',
    seconds: answerSeconds,
    streaming: true,
    url: { cors: false, router: { instance: router, readTimeout: `${answerSeconds} seconds` } },
  });
  return { made, url: router.url };
}
