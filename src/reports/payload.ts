import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { PermanentError } from '../queue/handler.ts';
import type { Job } from '../queue/store.ts';
import type { ReportPayload } from './report.ts';

const Payload = Type.Object({
  args: Type.Array(Type.Union([Type.Null(), Type.String(), Type.Number(), Type.Boolean()])),
  db: Type.String(),
  results: Type.String(),
  ttl: Type.Union([Type.Null(), Type.Number()]),
  timeout: Type.Union([Type.Null(), Type.Number()]),
});

const payload = Compile(Payload);

/** The payload of a report's job. Throws `PermanentError` for a job that is not a report's. */
export function asPayload(job: Pick<Job, 'job_id' | 'payload'>): ReportPayload {
  const found = payloadOf(job);
  if (found !== null) return found;
  throw new PermanentError(`job "${job.job_id}" does not carry a report`);
}

/** The same; null for a job that is not a report's. */
export function payloadOf(job: Pick<Job, 'payload'>): ReportPayload | null {
  const value: unknown = job.payload;
  return payload.Check(value) ? (value satisfies Static<typeof Payload>) : null;
}
