/**
 * Several statements in one round trip, some of which may be COPY … FROM STDIN: sent as one simple query, and
 * the rows behind it without waiting for the server to ask for them. (After an error the server passes over COPY
 * data that it did not ask for: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY)
 */
import type { Socket } from 'node:net';
import type pg from 'pg';
import { socketOf } from './connect.ts';

/** What one statement gave: its command tag ("COPY 3") and its rows in text form. */
export interface Answer {
  readonly tag: string;
  readonly rows: readonly (readonly (string | null)[])[];
}

const COPY_DATA = 0x64;
const COPY_DONE = Buffer.from([0x63, 0, 0, 0, 4]);
/** CopyFail with an empty reason. */
const COPY_FAIL = Buffer.from([0x66, 0, 0, 0, 5, 0]);

/** The sender waits when more than this is on its way to the socket, bytes. */
const MOST_UNSENT = 512 * 1024;

/** A running batch. */
export class Batch {
  /** The answers of all statements; rejects with the server's or the connection's error. */
  readonly done: Promise<readonly Answer[]>;
  readonly #socket: Socket;
  #resolve: (answers: readonly Answer[]) => void = () => {};
  #reject: (error: unknown) => void = () => {};
  #failure: { readonly error: unknown } | null = null;
  #settled = false;
  /** A commit was done without the word of the synchronous standby that it should have waited for. */
  isUnreplicated = false;
  readonly #answers: Answer[] = [];
  #rows: (string | null)[][] = [];

  /** `data`: all that each COPY takes, where it is at hand; otherwise `send` it, and then `finish` or `fail`. */
  constructor(client: pg.Client, sql: string, data: readonly Buffer[] = []) {
    const socket = socketOf(client);
    this.#socket = socket;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever sends rows hears of a failure from `send` and may never come to ask for the answers.
    this.done.catch(() => {});
    const notice = ({ routine }: { readonly routine?: string | undefined }) => {
      this.isUnreplicated ||= routine === 'SyncRepWaitForLSN';
    };
    client.on('notice', notice);
    const unlisten = () => void client.off('notice', notice);
    this.done.then(unlisten, unlisten);
    client.query(this.#submittable(sql, data));
  }

  /** Sends a piece of COPY's data; waits while the server is slow. Rejects once the batch has failed. */
  async send(data: Buffer): Promise<void> {
    this.#check();
    const socket = this.#socket;
    socket.cork();
    this.#write(data);
    socket.uncork();
    if (socket.writableLength <= MOST_UNSENT) return;
    await this.#drained();
    this.#check();
  }

  /** Ends COPY's data: the rows are complete. */
  finish(): void {
    this.#socket.write(COPY_DONE);
  }

  /** Ends COPY's data: the rows are not complete, and the statement must fail. */
  fail(): void {
    if (!this.#settled) this.#socket.write(COPY_FAIL);
  }

  /** Whether the server has answered all, or cannot any more. */
  get settled(): boolean {
    return this.#settled;
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  #write(data: Buffer): void {
    const header = Buffer.allocUnsafe(5);
    header[0] = COPY_DATA;
    header.writeInt32BE(data.length + 4, 1);
    this.#socket.write(header);
    this.#socket.write(data);
  }

  async #drained(): Promise<void> {
    const socket = this.#socket;
    await new Promise<void>((resolve) => {
      const go = () => {
        socket.off('drain', go);
        socket.off('close', go);
        resolve();
      };
      socket.on('drain', go);
      socket.on('close', go);
      // An error of the server frees the sender too, which would wait for ever if the server read no more.
      this.done.then(go, go);
    });
  }

  #settle(settle: () => void): void {
    if (this.#settled) return;
    this.#settled = true;
    settle();
  }

  /** What pg calls while the answers come in. */
  #submittable(sql: string, data: readonly Buffer[]) {
    return {
      // Only when it is this query's turn: the server passes over rows that come before their COPY.
      submit: (connection: pg.Connection) => {
        this.#socket.cork();
        connection.query(sql);
        for (const each of data) {
          this.#write(each);
          this.finish();
        }
        this.#socket.uncork();
      },
      handleRowDescription: () => {
        this.#rows = [];
      },
      handleDataRow: ({ fields }: { readonly fields: (string | null)[] }) => {
        this.#rows.push(fields);
      },
      handleCommandComplete: ({ text }: { readonly text: string }) => {
        this.#answers.push({ tag: text, rows: this.#rows });
        this.#rows = [];
      },
      handleError: (error: unknown) => {
        this.#failure = { error };
        this.#settle(() => this.#reject(error));
      },
      handleReadyForQuery: () => this.#settle(() => this.#resolve(this.#answers)),
      handleEmptyQuery: () => {},
      handleCopyInResponse: () => {},
      handleCopyData: () => {},
      handlePortalSuspended: () => {},
    };
  }
}

/** Runs statements that are not COPY in one round trip. */
export async function run(client: pg.Client, statements: readonly string[]): Promise<readonly Answer[]> {
  return new Batch(client, statements.join(';\n')).done;
}
