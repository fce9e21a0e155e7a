/** The turns that a child process takes for large values: it asks, and does nothing until it is answered. */
import { takeTurn } from '../large-turn.ts';
import type { AskedFor, SqliteProcess } from './process.ts';

export class ChildTurn {
  readonly #signal: AbortSignal;
  readonly #longest_ms: number | null;
  #end: (() => void) | null = null;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  /** `longest_ms`: after so long the turn ends by itself, where nobody hears that the child has done with a value. */
  constructor(child: Pick<SqliteProcess<never>, 'onAsk'>, signal: AbortSignal, longest_ms: number | null) {
    this.#signal = signal;
    this.#longest_ms = longest_ms;
    child.onAsk = (what) => this.#answer(what);
  }

  /** The child has done with its value: the next one may come. */
  end(): void {
    clearTimeout(this.#timer);
    this.#end?.();
    this.#end = null;
  }

  /** The child has done with all. */
  close(): void {
    this.#over = true;
    this.end();
  }

  async #answer(what: AskedFor): Promise<void> {
    // The values of a row lie in memory together: between them nobody else comes in.
    if (what === 'row') this.end();
    if (this.#end === null) {
      const end = await takeTurn(this.#signal);
      if (this.#over) end();
      else this.#end = end;
    }
    if (this.#longest_ms === null || this.#over) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(), this.#longest_ms).unref();
  }
}
