/** A store for those who cannot wait: what has no answer in time is unavailable. */
import { StoreUnavailable } from './errors.ts';
import type { Store } from './store.ts';

/**
 * The store, each of whose calls rejects with `StoreUnavailable` when it has no answer after so many ms. A call that
 * was given up may still be carried out. The stores have deadlines of their own, long enough for the largest batch;
 * this is for requests of people and probes. `close` takes its time.
 */
export function promptStore(store: Store, answer_ms: number): Store {
  const soon = async <T>(answer: Promise<T>): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(StoreUnavailable(`no answer within ${answer_ms / 1_000} s`)),
        answer_ms,
      );
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    get store_id() {
      return store.store_id;
    },
    enqueue: (jobs, group) => soon(store.enqueue(jobs, group)),
    claim: (request) => soon(store.claim(request)),
    renew: (renewals, lease_ms) => soon(store.renew(renewals, lease_ms)),
    finish: (ends) => soon(store.finish(ends)),
    release: (leases, delay_ms) => soon(store.release(leases, delay_ms)),
    cancel: (job_id) => soon(store.cancel(job_id)),
    cancelGroup: (group_id) => soon(store.cancelGroup(group_id)),
    purge: (job_id) => soon(store.purge(job_id)),
    purgeGroup: (group_id) => soon(store.purgeGroup(group_id)),
    retry: (job_id) => soon(store.retry(job_id)),
    get: (job_id) => soon(store.get(job_id)),
    states: (job_ids) => soon(store.states(job_ids)),
    group: (group_id) => soon(store.group(group_id)),
    unfinished: (group_ids) => soon(store.unfinished(group_ids)),
    pending: (queue, limit) => soon(store.pending(queue, limit)),
    list: (filter, limit, cursor) => soon(store.list(filter, limit, cursor)),
    stats: () => soon(store.stats()),
    pause: (queue) => soon(store.pause(queue)),
    resume: (queue) => soon(store.resume(queue)),
    limit: (limit, concurrency) => soon(store.limit(limit, concurrency)),
    limits: (limits) => soon(store.limits(limits)),
    leases: () => soon(store.leases()),
    recover: (options) => soon(store.recover(options)),
    prune: (retention) => soon(store.prune(retention)),
    watch: (listener) => store.watch(listener),
    ping: () => soon(store.ping()),
    close: () => store.close(),
  };
}
