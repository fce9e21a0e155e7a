/** What a claim costs while few and while many jobs wait. */
import { quantile } from '../stats.ts';
import { openStore } from './ours.ts';

export interface ClaimFigures {
  readonly pending: number;
  /** Of a claim of ten jobs, ms. */
  readonly p50: number;
  readonly p99: number;
}

const CLAIMS = 200;
const BATCH = 1_000;

/**
 * On an empty store; `pending` is how many jobs wait at each step, rising. `settled` resolves when the server is done with
 * what posting so many has set going.
 */
export async function claimCost(
  name: 'sqlite' | 'postgres' | 'redis',
  address: string,
  pending: readonly number[],
  settled: () => Promise<void>,
): Promise<readonly ClaimFigures[]> {
  const store = await openStore(name, address);
  const figures: ClaimFigures[] = [];
  let posted = 0;
  let claimed = 0;
  for (const wanted of pending) {
    while (posted - claimed < wanted) {
      const first = posted;
      posted += Math.min(BATCH, wanted - (posted - claimed));
      await store.enqueue(
        Array.from({ length: posted - first }, (_, index) => {
          return { job_id: `job_${first + index}`, task: 'noop', queue: 'default', payload: null };
        }),
      );
    }
    await settled();
    const times: number[] = [];
    // Fewer than wait, so that none is cut short.
    for (let n = 0; n < Math.min(CLAIMS, wanted / 20); n += 1) {
      const begin = performance.now();
      const { jobs } = await store.claim({
        worker: 'bench',
        queues: [{ queue: 'default', limit: 10 }],
        limit: 10,
        lease_ms: 3_600_000,
      });
      times.push(performance.now() - begin);
      if (jobs.length !== 10) throw new Error(`${jobs.length} jobs were claimed where 10 were asked for`);
      claimed += 10;
    }
    figures.push({ pending: wanted, p50: quantile(times, 0.5), p99: quantile(times, 0.99) });
  }
  await store.close();
  return figures;
}
