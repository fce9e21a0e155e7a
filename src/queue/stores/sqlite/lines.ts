/** What can be claimed of a queue, in order. */
import type { JobState } from '../../store.ts';
import type { InPlay } from './lanes.ts';
import type { Session } from './session.ts';
import { SQL } from './statements.ts';

/** The most candidates read at once. */
const CHUNK = 100;

/** A job that is due, where it stands. */
export interface Candidate {
  readonly seq: number;
  readonly queue: string;
  readonly state: JobState;
  readonly priority: number;
  readonly turn_at: number;
  readonly turn: number;
  readonly due_at: number;
  readonly place: number;
  /** It needs slots; null: it can be had as it is. */
  readonly in_play: InPlay | null;
}

/** A queue's jobs without a lane and those with one, as one line. */
export class Line {
  left: number;
  readonly #plain: PlainLine;
  readonly #turns: TurnLine;

  constructor(session: Session, queue: string, left: number) {
    this.left = left;
    this.#plain = new PlainLine(session, queue, left);
    this.#turns = new TurnLine(session, queue);
  }

  /** The first candidate, if there is one. */
  get head(): Candidate | undefined {
    if (this.left <= 0) return undefined;
    const plain = this.#plain.head;
    const turn = this.#turns.head;
    return plain === undefined || (turn !== undefined && isBefore(turn, plain)) ? turn : plain;
  }

  /** To be called when the head was started, or put elsewhere. */
  pass(candidate: Candidate): void {
    if (candidate.in_play === null) this.#plain.pass();
    else this.#turns.reset();
  }
}

type PlainRow = [seq: number, state: JobState, due_at: number, place: number];

/**
 * Jobs without a lane. Due jobs come first within a priority, so each priority in use costs one look-up, and
 * jobs that are not due yet cost nothing.
 */
class PlainLine {
  readonly #session: Session;
  readonly #queue: string;
  readonly #chunk: number;
  #priority: number | undefined;
  #ahead: Candidate[] = [];
  #at = 0;
  #last: readonly [due_at: number, place: number] = [0, 0];
  /** Whether this priority may have more than was read. */
  #more = false;

  constructor(session: Session, queue: string, most: number) {
    this.#session = session;
    this.#queue = queue;
    this.#chunk = Math.min(most, CHUNK);
    this.#goTo(session.get<[number]>(SQL.highestPriority, queue));
  }

  get head(): Candidate | undefined {
    for (;;) {
      const candidate = this.#ahead[this.#at];
      if (candidate !== undefined && candidate.due_at <= this.#session.now) return candidate;
      if (this.#priority === undefined) return undefined;
      if (candidate === undefined && this.#more) this.#read(this.#priority);
      else this.#goTo(this.#session.get<[number]>(SQL.nextPriority, this.#queue, this.#priority));
    }
  }

  pass(): void {
    this.#at += 1;
  }

  #goTo(priority: [number] | undefined): void {
    this.#priority = priority?.[0];
    this.#last = [0, 0];
    this.#ahead = [];
    this.#at = 0;
    this.#more = priority !== undefined;
  }

  #read(priority: number): void {
    const rows = this.#session.all<PlainRow>(
      SQL.claimable,
      this.#queue,
      priority,
      ...this.#last,
      this.#chunk,
    );
    this.#ahead = rows.map(([seq, state, due_at, place]) => {
      const queue = this.#queue;
      return { seq, queue, state, priority, turn_at: due_at, turn: place, due_at, place, in_play: null };
    });
    this.#at = 0;
    this.#more = rows.length === this.#chunk;
    const last = this.#ahead.at(-1);
    if (last !== undefined) this.#last = [last.due_at, last.place];
  }
}

type TurnRow = [
  seq: number,
  state: JobState,
  lane: number,
  due_at: number,
  place: number,
  turn_at: number,
  turn: number,
];

/** Jobs in play. Any that is looked at may put others in play, also before itself. */
class TurnLine {
  readonly #session: Session;
  readonly #queue: string;
  #head: Candidate | undefined;
  #isRead = false;

  constructor(session: Session, queue: string) {
    this.#session = session;
    this.#queue = queue;
  }

  get head(): Candidate | undefined {
    if (!this.#isRead) this.#head = this.#first();
    this.#isRead = true;
    return this.#head;
  }

  reset(): void {
    this.#isRead = false;
  }

  #first(): Candidate | undefined {
    const session = this.#session;
    const queue = this.#queue;
    let next = session.get<[priority: number]>(SQL.highestInPlay, queue);
    while (next !== undefined) {
      const [priority] = next;
      const row = session.get<TurnRow>(SQL.firstInPlay, queue, priority, session.now);
      if (row !== undefined) {
        const [seq, state, lane, due_at, place, turn_at, turn] = row;
        const in_play = { seq, lane, due_at, place, turn_at, turn };
        return { seq, queue, state, priority, turn_at, turn, due_at, place, in_play };
      }
      next = session.get<[priority: number]>(SQL.nextInPlay, queue, priority);
    }
    return undefined;
  }
}

/** The line whose head comes first of all. */
export function firstOf(lines: readonly Line[]): { line: Line; candidate: Candidate } | undefined {
  let first: { line: Line; candidate: Candidate } | undefined;
  for (const line of lines) {
    const { head } = line;
    if (head !== undefined && (first === undefined || isBefore(head, first.candidate))) {
      first = { line, candidate: head };
    }
  }
  return first;
}

function isBefore(one: Candidate, other: Candidate): boolean {
  if (one.priority !== other.priority) return one.priority > other.priority;
  if (one.turn_at !== other.turn_at) return one.turn_at < other.turn_at;
  if (one.turn !== other.turn) return one.turn < other.turn;
  if (one.due_at !== other.due_at) return one.due_at < other.due_at;
  return one.place < other.place;
}
