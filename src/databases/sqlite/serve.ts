/** The inside of a child process: answers calls, and ends with the process that made it. */
import { Worker } from 'node:worker_threads';
import { entry } from '../../util/entry.ts';
import type { Failure } from './failure.ts';
import { type Answer, type Call, type EventOf, LIFELINE, type Operations } from './process.ts';

type Handlers<T extends Operations<T>> = {
  [K in keyof T]: (
    request: T[K]['request'],
    tell: (event: EventOf<T[K]>) => void,
  ) => T[K]['reply'] | Promise<T[K]['reply']>;
};

/** Answers calls with what the handlers return, or with what `describe` makes of what they throw. */
export function serve<T extends Operations<T>>(
  handlers: Handlers<T>,
  describe: (error: unknown) => Failure,
): void {
  if (process.send === undefined) throw new Error('this module runs as a child process only');
  const end = () => process.kill(process.pid, 'SIGKILL');
  const send = (answer: Answer) =>
    process.send?.(answer, undefined, undefined, (error) => {
      if (error !== null) end(); // nobody is there to hear it
    });
  process.on('message', async (message) => {
    const { id, op, request } = message as Call;
    try {
      const handler = handlers[op as keyof T];
      send({ id, reply: await handler(request as never, (event) => send({ id, event })) });
    } catch (error) {
      send({ id, failure: describe(error) });
    }
  });
  process.once('disconnect', end);
  // While this thread is inside of SQLite it hears of nothing: another one waits for the end.
  new Worker(entry(import.meta.url, './watchdog'), { workerData: LIFELINE }).unref();
  // A signal meant for the server (Ctrl-C goes to the whole process group) is not for its children: the
  // server lets running jobs finish, and ends them itself.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  send({ ready: true });
}
