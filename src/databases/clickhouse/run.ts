/** One attempt's requests, one after the other, each marked with the attempt; and their end, in good order or not. */
import type { IncomingMessage } from 'node:http';
import type { Owner } from '../database.ts';
import type { Http } from './http.ts';
import { queryId } from './marker.ts';
import { endQuery, predecessors } from './queries.ts';

/** How long is waited for a query to end in the server, ms. */
const END_MS = 5_000;

export interface RunOptions {
  readonly http: Http;
  readonly owner: Owner;
  readonly signal: AbortSignal;
  /** Called once, when nothing of the attempt is under way any more. */
  release(): void;
}

export class Run {
  /** The caller's signal. */
  readonly caller: AbortSignal;
  readonly warnings: string[] = [];
  readonly #options: RunOptions;
  /** The caller's, and that of this attempt's end. */
  readonly #signal: AbortSignal;
  readonly #ended = new AbortController();
  #requests = 0;
  /** Of the request that the server may be working on. */
  #query_id: string | null = null;
  #ending: Promise<void> | null = null;
  // Not only where the answer is awaited: whoever reads it may take long to come back.
  readonly #onAbort = () => {
    // Whoever uses the run awaits the same end, and hears of its failure there.
    this.end().catch(() => {});
  };

  constructor(options: RunOptions) {
    this.#options = options;
    this.caller = options.signal;
    this.#signal = AbortSignal.any([options.signal, this.#ended.signal]);
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** An answer that is short, and complete before it is sent. */
  async ask(sql: string, settings: Readonly<Record<string, string>>): Promise<Buffer> {
    const { http } = this.#options;
    const answer = await http.askBytes(sql, { signal: this.#signal, parameters: this.#begin(settings) });
    this.#query_id = null;
    return answer;
  }

  /** An answer to be read. */
  send(sql: string, settings: Readonly<Record<string, string>>): Promise<IncomingMessage> {
    return this.#options.http.send(sql, { signal: this.#signal, parameters: this.#begin(settings) });
  }

  /** The last answer was read to its end, or was an error: nothing runs any more. */
  complete(): void {
    this.#query_id = null;
  }

  /** Ends queries of earlier attempts of the same job. */
  async endPredecessors(): Promise<void> {
    const { http, owner } = this.#options;
    for (const query_id of await predecessors(http, owner, this.#signal)) {
      if (await endQuery(http, query_id, END_MS)) continue;
      this.warnings.push(
        'the query of an earlier attempt still ran in the database; it did not end when killed',
      );
    }
    this.#signal.throwIfAborted();
  }

  /** Resolves once the server no longer works on the attempt, or has been asked to stop and takes its time. */
  end(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    const { http, signal, release } = this.#options;
    signal.removeEventListener('abort', this.#onAbort);
    const query_id = this.#query_id;
    try {
      if (query_id === null) return;
      this.#ended.abort(new Error('the query was given up'));
      const still = await endQuery(http, query_id, END_MS);
      if (still !== null) this.warnings.push(`the query may still run: ${still}`);
    } finally {
      release();
    }
  }

  #begin(settings: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
    this.#requests += 1;
    this.#query_id = queryId(this.#options.owner, this.#requests);
    return { ...settings, query_id: this.#query_id };
  }
}
