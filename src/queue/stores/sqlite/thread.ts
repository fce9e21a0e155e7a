/**
 * The store's thread: the only place that touches its file, so that neither an fsync nor another process's
 * lock stops the event loop of whoever uses the store. Calls that arrive together are one transaction and
 * cost one fsync (group commit); nobody is answered before it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { QueueError } from '../../errors.ts';
import { openFile } from './file.ts';
import { type Batch, type Call, READS, type Replies, type Reply, type ThreadOptions } from './messages.ts';
import { Operations } from './operations.ts';

if (parentPort === null) throw new Error('this module runs as a worker thread');
const port = parentPort;
const options: ThreadOptions = workerData;

const file = openFile(options);
const operations = new Operations(file.database);
let version = file.dataVersion();

port.on('message', (batch: Batch | 'close') => {
  if (batch === 'close') {
    file.close();
    port.close();
    return;
  }
  port.postMessage(answer(batch));
});
port.postMessage('open');

function answer({ calls, offset_ms }: Batch): Replies {
  operations.happened = { ready: false, cancel: false, finished: [] };
  let replies: Reply[];
  try {
    const writes = calls.some((call) => !READS.has(call.method));
    replies = file.transaction(writes, () => {
      operations.now = Date.now() + offset_ms;
      return calls.map(perform);
    });
  } catch (error) {
    // Nothing of the batch was kept.
    operations.happened = { ready: false, cancel: false, finished: [] };
    replies = calls.map(({ id }) => failure(id, file.explain(error)));
  }
  const seen = version;
  version = file.dataVersion() ?? seen;
  return { replies, happened: operations.happened, changed_elsewhere: version !== seen };
}

/** One call; what it threw on purpose undoes it alone, anything else undoes the batch. */
function perform(call: Call): Reply {
  if (READS.has(call.method)) {
    try {
      return { id: call.id, value: invoke(call) };
    } catch (error) {
      if (error instanceof QueueError) return failure(call.id, error);
      throw error;
    }
  }
  const before = structuredClone(operations.happened);
  file.database.exec('SAVEPOINT call');
  try {
    const value = invoke(call);
    file.database.exec('RELEASE call');
    return { id: call.id, value };
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    file.database.exec('ROLLBACK TO call; RELEASE call');
    operations.happened = before;
    return failure(call.id, error);
  }
}

function invoke({ method, args }: Call): unknown {
  if (method === 'ping' || method === 'peek') return null;
  // The store's methods are the only callers, with the arguments that these take.
  const operation = operations[method] as (...args: readonly unknown[]) => unknown;
  return operation.apply(operations, [...args]);
}

function failure(id: number, error: unknown): Reply {
  if (error instanceof QueueError) return { id, code: error.code, message: error.message };
  return { id, code: null, message: error instanceof Error ? error.message : String(error) };
}
