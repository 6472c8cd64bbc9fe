import { Problem } from '../base/problem.ts';
import { createTiming, problemAnswer, toResponse } from './respond.ts';

/** What is answered to what never became a request: a malformed head, host or path, or one too large. */
export async function refusal(requestId: string, why = 'This is no HTTP request that can be read.'): Promise<Response> {
  const answer = problemAnswer(new Problem('invalid_request', why), requestId);
  return toResponse(answer, { requestId, timing: createTiming(), acceptEncoding: null });
}
