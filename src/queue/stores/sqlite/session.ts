/** What the operations of one transaction share: the statements, the time, the counters, what happened. */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import type { JobState } from '../../store.ts';
import { SQL } from './statements.ts';

/** What other parts of the process may want to know of a transaction once it is committed. */
export interface Happened {
  ready: boolean;
  /** A running job was asked to stop. */
  stopped: boolean;
  finished: string[];
}

/** How far this connection knows what others have done: see the table `store`. */
export interface Seen {
  readonly readied: number;
  readonly stopped: number;
  readonly finished: number;
}

interface Counters {
  seq: number;
  fence: number;
  readied: number;
  stopped: number;
  finished: number;
}

type CountersRow = [seq: number, fence: number, readied: number, stopped: number, finished: number];

export class Session {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #counters: Counters = { seq: 0, fence: 0, readied: 0, stopped: 0, finished: 0 };
  #counts = new Map<string, Map<JobState, number>>();
  #changed = false;
  /** Statements that may have written, so far. */
  writes = 0;
  /** The store's clock, ms since 1970: it stands still while a transaction runs. */
  now = 0;
  happened: Happened = { ready: false, stopped: false, finished: [] };

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** To be called inside of a new transaction. */
  begin(now: number): void {
    this.now = now;
    this.#load();
    this.#counts = new Map();
    this.#changed = false;
    this.happened = { ready: false, stopped: false, finished: [] };
  }

  /** What this and other connections had done when the transaction began. */
  get seen(): Seen {
    const { readied, stopped, finished } = this.#counters;
    return { readied, stopped, finished };
  }

  /** Writes what was counted; to be called right before the commit. */
  flush(): Seen {
    const { happened } = this;
    for (const [queue, states] of this.#counts) {
      for (const [state, jobs] of states) if (jobs !== 0) this.run(SQL.count, queue, state, jobs);
    }
    if (happened.ready) this.#counters.readied += 1;
    if (happened.stopped) this.#counters.stopped += 1;
    if (happened.finished.length > 0) this.#counters.finished += 1;
    const { seq, fence, readied, stopped, finished } = this.#counters;
    if (this.#changed || happened.ready || happened.stopped || happened.finished.length > 0) {
      this.run(SQL.saveCounters, seq, fence, readied, stopped, finished);
    }
    return { readied, stopped, finished };
  }

  nextSeq(): number {
    this.#changed = true;
    this.#counters.seq += 1;
    return this.#counters.seq;
  }

  nextFence(): number {
    this.#changed = true;
    this.#counters.fence += 1;
    return this.#counters.fence;
  }

  count(queue: string, state: JobState, jobs: number): void {
    let states = this.#counts.get(queue);
    if (states === undefined) {
      states = new Map();
      this.#counts.set(queue, states);
    }
    states.set(state, (states.get(state) ?? 0) + jobs);
  }

  /** Runs `work` so that it leaves nothing behind if it throws. */
  apart<T>(work: () => T): T {
    const counts = structuredClone(this.#counts);
    const happened = structuredClone(this.happened);
    this.run('SAVEPOINT apart');
    try {
      const value = work();
      this.run('RELEASE apart');
      return value;
    } catch (error) {
      this.run('ROLLBACK TO apart');
      this.run('RELEASE apart');
      this.#counts = counts;
      this.happened = happened;
      throw error;
    }
  }

  /** The first row. The type is that of the statement's columns. */
  get<Row>(sql: string, ...parameters: SQLInputValue[]): Row | undefined {
    return this.#prepare(sql).get(...parameters) as Row | undefined;
  }

  all<Row>(sql: string, ...parameters: SQLInputValue[]): Row[] {
    return this.#prepare(sql).all(...parameters) as Row[];
  }

  run(sql: string, ...parameters: SQLInputValue[]): void {
    this.writes += 1;
    this.#prepare(sql).run(...parameters);
  }

  /** Runs a statement that writes and returns a row. */
  change<Row>(sql: string, ...parameters: SQLInputValue[]): Row | undefined {
    this.writes += 1;
    return this.get<Row>(sql, ...parameters);
  }

  #load(): void {
    const row = this.get<CountersRow>(SQL.counters);
    if (row === undefined) throw new Error('the store has lost its own row');
    const [seq, fence, readied, stopped, finished] = row;
    this.#counters = { seq, fence, readied, stopped, finished };
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      statement.setReturnArrays(true);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}
