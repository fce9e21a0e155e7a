/** Ends a job to which a listener listens that throws, and prints what came of both. */
import assert from 'node:assert/strict';
import { openSqliteStore } from '../../../src/queue/stores/sqlite.ts';

const thrown: string[] = [];
process.on('uncaughtException', ({ message }) => thrown.push(message));
const store = await openSqliteStore({ path: ':memory:' });
await store.enqueue([{ job_id: 'a', task: 'task', queue: 'default', payload: null }]);
const queues = [{ queue: 'default', limit: 1 }];
const { jobs } = await store.claim({ worker: 'w', queues, limit: 1, lease_ms: 60_000 });
const [job] = jobs;
assert.ok(job);
store.watch(({ type }) => {
  if (type === 'finished') throw new Error('a listener');
});
const states = await store.finish([{ lease: job.lease, outcome: { state: 'SUCCESS', result: null } }]);
console.log(JSON.stringify({ states, thrown }));
process.exit();
