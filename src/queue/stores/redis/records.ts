/** Jobs as the script answers with them. */
import type { Dependency, Job, OnFailure } from '../../store.ts';
import { HEAD, STATES } from './script/constants.ts';
import { fromText } from './texts.ts';

/** What never changes of a job, as JSON behind the head of its record; the payload is missing if it is kept apart. */
export type Tail = readonly [
  task: string,
  retries: number,
  group_id: string | null,
  after: readonly (readonly [job_id: string, on_failure: OnFailure])[],
  payload?: unknown,
];

type HeadName = (typeof HEAD)[number];
type Head = readonly (string | number)[];

const PLACES = Object.fromEntries(HEAD.map((name, index) => [name, index])) as Record<HeadName, number>;

/** The answer's items for a job: its seq, its record, its payload if that is kept apart, its progress. */
export type JobReply = readonly [seq: number, record: Buffer, payload: Buffer, progress: Buffer];

export function toJob([seq, record, outside, progress]: JobReply): Job {
  const reader = new Reader(record);
  const head = reader.head();
  const [task, retries, group_id, after, payload]: Tail = JSON.parse(record.toString('utf8', reader.at));
  const item = (name: HeadName) => head[PLACES[name]] ?? '';
  const number = (name: HeadName) => Number(item(name));
  const text = (name: HeadName) => fromText(String(item(name)));
  const orNull = (name: HeadName) => number(name) || null;
  const result = String(item('RESULT'));
  return {
    seq,
    job_id: text('ID'),
    task,
    queue: text('QUEUE'),
    payload: number('OUTSIDE') === 1 ? JSON.parse(outside.toString()) : payload,
    state: STATES[number('STATE')] ?? 'PENDING',
    priority: number('PRIORITY'),
    eta: item('ETA') === '' ? null : number('ETA'),
    retries,
    attempt: number('ATTEMPT'),
    failures: number('FAILURES'),
    fence: orNull('FENCE'),
    group_id,
    after: after.map(toDependency),
    limit: text('LIMIT') || null,
    key: text('KEY') || null,
    key_concurrency: orNull('KEY_CONCURRENCY'),
    worker: text('WORKER') || null,
    error: text('ERROR'),
    result: result === '' ? null : JSON.parse(result),
    progress: progress.length === 0 ? null : JSON.parse(progress.toString()),
    cancel_requested: number('CANCEL') === 1,
    created_at: number('CREATED'),
    due_at: number('DUE'),
    started_at: orNull('STARTED_AT'),
    finished_at: orNull('FINISHED'),
  };
}

function toDependency([job_id, on_failure]: readonly [string, OnFailure]): Dependency {
  return { job_id, on_failure };
}

/** Reads the MessagePack that the script writes: one array of integers and texts. */
class Reader {
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  head(): Head {
    const type = this.#unsigned(1);
    const size = type === 0xdc ? this.#unsigned(2) : type & 0x0f;
    return Array.from({ length: size }, () => this.#item());
  }

  #item(): string | number {
    const type = this.#unsigned(1);
    if (type < 0x80) return type;
    if (type >= 0xe0) return type - 0x100;
    if (type >= 0xa0 && type < 0xc0) return this.#text(type & 0x1f);
    switch (type) {
      case 0xcc:
        return this.#unsigned(1);
      case 0xcd:
        return this.#unsigned(2);
      case 0xce:
        return this.#unsigned(4);
      case 0xcf:
        return this.#unsigned(4) * 2 ** 32 + this.#unsigned(4);
      case 0xd0:
        return this.#signed(1);
      case 0xd1:
        return this.#signed(2);
      case 0xd2:
        return this.#signed(4);
      case 0xd3:
        return this.#signed(4) * 2 ** 32 + this.#unsigned(4);
      case 0xd9:
        return this.#text(this.#unsigned(1));
      case 0xda:
        return this.#text(this.#unsigned(2));
      case 0xdb:
        return this.#text(this.#unsigned(4));
      default:
        throw new Error(`a record holds MessagePack of the unknown type ${type}`);
    }
  }

  #unsigned(bytes: number): number {
    this.at += bytes;
    return this.#bytes.readUIntBE(this.at - bytes, bytes);
  }

  #signed(bytes: number): number {
    this.at += bytes;
    return this.#bytes.readIntBE(this.at - bytes, bytes);
  }

  #text(bytes: number): string {
    this.at += bytes;
    return this.#bytes.toString('utf8', this.at - bytes, this.at);
  }
}
