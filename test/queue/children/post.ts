/** Posts jobs to the store of the first argument, one by one, and tells its parent of each that was accepted. */
import { Queue } from '../../../src/queue/queue.ts';
import { openSqliteStore } from '../../../src/queue/stores/sqlite.ts';

const [path] = process.argv.slice(2);
if (path === undefined) throw new Error('tell me the file');
const queue = new Queue(await openSqliteStore({ path }));
for (;;) {
  const { job_id } = await queue.enqueue({ task: 'quick', queue: 'default', payload: null });
  process.send?.({ type: 'accepted', job_id });
}
