/** From what was posted to what the reports take: blanks become absent, texts become values. */
import type { ReportRequest } from '../reports/report.ts';
import { ApiError } from './errors.ts';
import type { JobRequest } from './schemas.ts';
import { show } from './validation.ts';
import { parseBoolean, parseDuration, parseTime } from './values.ts';

/** The longest a client may wait in one request. */
export const MAX_WAIT_MS = 60_000;

/**
 * A report request. `task` is the path's, or null in a group, where each job names its own; `where` goes
 * before the names of fields in messages.
 */
export function toReportRequest(body: JobRequest, task: string | null, where = ''): ReportRequest {
  const own = body.task || null;
  if (task !== null && own !== null && own !== task) {
    throw invalid(
      `${where}task`,
      `is ${show(own)} in the body and ${show(task)} in the path; send one of them`,
    );
  }
  const name = task ?? own;
  if (name === null) throw invalid(`${where}task`, 'is missing; it must be the name of a task');
  const { retries, priority, args } = body;
  return {
    task: name,
    ...(body.job_id ? { job_id: body.job_id } : {}),
    ...(body.queue ? { queue: body.queue } : {}),
    ...(body.eta ? { eta: etaOf(body.eta, where) } : {}),
    ...(retries == null ? {} : { retries }),
    ...(priority == null ? {} : { priority }),
    ...(body.ttl ? { ttl: body.ttl } : {}),
    ...(body.timeout ? { timeout: body.timeout } : {}),
    ...(args == null ? {} : { args }),
    ...(body.db ? { db: body.db } : {}),
    ...(body.results ? { results: body.results } : {}),
    ...(body.key ? { key: body.key } : {}),
    ...(body.after?.length ? { after: body.after } : {}),
    ...(body.on_failure ? { on_failure: body.on_failure } : {}),
  };
}

function etaOf(text: string, where: string): number {
  const eta = parseTime(text);
  if (eta !== null) return eta;
  throw invalid(
    `${where}eta`,
    `must be a time that exists, as "yyyy-mm-dd hh:mm:ss" in UTC or in RFC 3339 with its offset, not ${show(text)}`,
  );
}

/** ms, or null when no wait is asked for. */
export function waitOf(text: string | undefined): number | null {
  if (text === undefined) return null;
  const ms = parseDuration(text);
  if (ms !== null && ms > 0 && ms <= MAX_WAIT_MS) return ms;
  throw invalid(
    'wait',
    `must be a duration such as 30s, or seconds, above 0 and at most 60s, not ${show(text)}`,
  );
}

/** A flag of the query string; absent and empty are false. */
export function flagOf(text: string | undefined): boolean {
  return parseBoolean(text ?? '') ?? false;
}

/** How many are asked for. */
export function limitOf(
  text: string | undefined,
  limit: { readonly most: number; readonly usual: number },
): number {
  if (text === undefined) return limit.usual;
  const asked = Number(text);
  if (asked >= 1 && asked <= limit.most) return asked;
  throw invalid('limit', `must be a whole number from 1 to ${limit.most}, not ${show(text)}`);
}

function invalid(field: string, problem: string): ApiError {
  return new ApiError('invalid_request', `${field}: ${problem}`);
}
