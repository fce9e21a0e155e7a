/** Every way in which an attempt gives back the slots that it took. */
import type { ClaimedJob } from '../../../src/queue/store.ts';
import { LEASE_MS, type Subject } from './subject.ts';

/** What is done to a running job; after it nothing of it runs, and it does not come back by itself. */
export const WAYS_OUT: readonly (readonly [
  way: string,
  (s: Subject, held: ClaimedJob) => Promise<unknown>,
])[] = [
  ['success', (s, held) => s.succeed(held)],
  ['failure', (s, held) => s.fail(held)],
  ['cancel', (s, held) => s.finish(held, { state: 'CANCELLED' })],
  ['retry', (s, held) => s.retryLater(held, 600_000)],
  ['purge', (s, held) => s.store.purge(held.job_id)],
  [
    'release of a cancelled job',
    async (s, held) => {
      await s.store.cancel(held.job_id);
      await s.store.release([held.lease]);
    },
  ],
  [
    'recovery of a poison job',
    async (s) => {
      s.advance(LEASE_MS + 1);
      await s.store.recover({ max_crashes: 1 });
    },
  ],
  [
    'recovery of a cancelled job',
    async (s, held) => {
      await s.store.cancel(held.job_id);
      s.advance(LEASE_MS + 1);
      await s.recover();
    },
  ],
];

/** Does all of it again with a lease that is over: a slot that is freed twice would show. */
export async function endAgain(s: Subject, held: ClaimedJob): Promise<void> {
  await s.finish(held, { state: 'SUCCESS', result: null });
  await s.store.release([held.lease]);
  await s.recover();
}
