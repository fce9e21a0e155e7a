import type { Job } from './store.ts';

/** How long it stood ready before its attempt began, other attempts before that included, ms; null: it never began. */
export function queueMs(job: Pick<Job, 'created_at' | 'eta' | 'started_at'>): number | null {
  if (job.started_at === null) return null;
  return Math.max(0, Math.round(job.started_at - Math.max(job.created_at, job.eta ?? 0)));
}
