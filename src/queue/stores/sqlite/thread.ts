/**
 * The store's thread: the only place that touches its file, so that neither an fsync nor another process's
 * lock stops the event loop of whoever uses the store. Calls that have arrived by the time it is free are
 * one transaction and cost one fsync (group commit); nobody is answered before it.
 */
import { type FSWatcher, watch } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { QueueError } from '../../errors.ts';
import { isFileError, StoreFile } from './file.ts';
import type { Answer, Call, News, Reply, Request, ThreadOptions } from './messages.ts';
import { invoke, isWrite } from './operations.ts';
import type { Happened, Seen, Session } from './session.ts';

/** The most calls of one transaction, so that none waits long for its neighbours. */
const BATCH = 500;
/**
 * When to look, after the file system told of a change, ms: not at once, since changes come in bursts; and again
 * if there was nothing to see, since the change is told when it is written, and seen when it is on the disk.
 */
const LOOKS_MS = [1, 4, 16, 64, 256];
/** A clock that is set back by less than this stands still instead, so that the order of posting holds, ms. */
const CLOCK_STEP_MS = 2_000;

if (parentPort === null) throw new Error('this module runs as a worker thread');
const port = parentPort;
const options: ThreadOptions = workerData;

let waiting: Call[] = [];
let offset_ms = 0;
let clock = 0;
let seen: Seen | undefined;
let watching = false;
let watcher: FSWatcher | undefined;
let poll: NodeJS.Timeout | undefined;
let look: NodeJS.Timeout | undefined;
let lookStep = 0;

const file = open();
// From here on it knows what others do.
if (file !== undefined) answer([]);

function open(): StoreFile | undefined {
  try {
    const opened = new StoreFile(options.path, options.busy_timeout_ms, options.store_id);
    post({ type: 'open', store_id: opened.store_id });
    port.on('message', receive);
    return opened;
  } catch (error) {
    const code = error instanceof QueueError ? error.code : null;
    post({ type: 'failed', code, message: messageOf(error) });
    return undefined;
  }
}

function receive(first: Request): void {
  let request: Request | undefined = first;
  let closing = false;
  while (request !== undefined) {
    if (request.type === 'calls') {
      waiting.push(...request.calls);
      offset_ms = request.offset_ms;
    } else if (request.type === 'watch') {
      setWatching(request.watching);
    } else {
      closing = true;
    }
    request = waiting.length < BATCH ? receiveMessageOnPort(port)?.message : undefined;
  }
  while (waiting.length > 0) {
    const calls = waiting.slice(0, BATCH);
    waiting = waiting.slice(BATCH);
    post(answer(calls));
  }
  if (closing) {
    setWatching(false);
    file?.close();
    port.close();
  }
}

function answer(calls: readonly Call[]): Answer {
  try {
    try {
      return run(calls, perform);
    } catch (error) {
      if (!(error instanceof HalfDone)) throw error;
      // Rare, and nothing is committed yet: all again, each with a savepoint of its own.
      return run(calls, performApart);
    }
  } catch (error) {
    return {
      type: 'replies',
      replies: calls.map(([id]) => failure(id, error)),
      news: { ready: false, stopped: false, finished: [] },
    };
  }
}

function run(calls: readonly Call[], performOne: (session: Session, call: Call) => Reply): Answer {
  if (file === undefined) throw new Error('the store is not open');
  const mode = calls.some(([, operation]) => isWrite(operation)) ? 'write' : 'read';
  const done = file.transaction(mode, (session) => {
    session.begin(now());
    const before = session.seen;
    const replies = calls.map((call) => performOne(session, call));
    return { replies, happened: session.happened, before, after: session.flush() };
  });
  const news = newsOf(done.happened, done.before);
  seen = done.after;
  return { type: 'replies', replies: done.replies, news };
}

/** A call has failed after it had changed something. */
class HalfDone extends Error {}

/** Most calls that fail do so before they change anything, and then need not be undone. */
function perform(session: Session, [id, operation, args]: Call): Reply {
  const { writes } = session;
  try {
    return [id, true, invoke(session, operation, args)];
  } catch (error) {
    if (isFileError(error)) throw error;
    if (session.writes !== writes) throw new HalfDone();
    return failure(id, error);
  }
}

function performApart(session: Session, [id, operation, args]: Call): Reply {
  try {
    return [id, true, session.apart(() => invoke(session, operation, args))];
  } catch (error) {
    if (isFileError(error)) throw error;
    return failure(id, error);
  }
}

function failure(id: number, error: unknown): Reply {
  const code = error instanceof QueueError ? error.code : null;
  return [id, false, code, messageOf(error)];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function now(): number {
  const time = Date.now() + offset_ms;
  if (time > clock || clock - time > CLOCK_STEP_MS) clock = time;
  return clock;
}

/** What happened here, and what the counters say that others have done since the last transaction. */
function newsOf(happened: Happened, before: Seen): News {
  const last = seen ?? before;
  return {
    ready: happened.ready || before.readied !== last.readied,
    stopped: happened.stopped || before.stopped !== last.stopped,
    finished: before.finished === last.finished ? happened.finished : [...happened.finished, null],
  };
}

function setWatching(on: boolean): void {
  if (on === watching || file?.isFile !== true) return;
  watching = on;
  if (!on) {
    clearInterval(poll);
    clearTimeout(look);
    look = undefined;
    watcher?.close();
    return;
  }
  // The file system's word is a hint that may get lost: the poll finds what it has not told.
  poll = setInterval(() => lookIn(0), options.poll_ms);
  try {
    watcher = watch(`${options.path}-wal`, { persistent: false }, () => lookIn(0));
    watcher.on('error', () => watcher?.close());
  } catch {
    watcher = undefined; // no more watches to be had, say: the poll is enough
  }
}

/** Looks soon, or not so soon, whether other processes have done something. */
function lookIn(step: number): void {
  if (look !== undefined && (lookStep === 0 || step > 0)) return;
  clearTimeout(look);
  lookStep = step;
  look = setTimeout(() => {
    look = undefined;
    if (watching && !lookNow() && step + 1 < LOOKS_MS.length) lookIn(step + 1);
  }, LOOKS_MS[step]);
}

function lookNow(): boolean {
  const answered = answer([]);
  if (answered.type !== 'replies') return false;
  const { ready, stopped, finished } = answered.news;
  const hasNews = ready || stopped || finished.length > 0;
  if (hasNews) post(answered);
  return hasNews;
}

function post(answer: Answer): void {
  port.postMessage(answer);
}
