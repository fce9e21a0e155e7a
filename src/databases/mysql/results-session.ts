/** A connection of the results backend: one statement at a time, values bound, never waited for in vain. */
import type { Readable } from 'node:stream';
import type { Connection, ResultSetHeader } from 'mysql2';
import { DatabaseError } from '../errors.ts';
import type { Flavor } from './results-columns.ts';

/** What a statement was answered with, or that its connection is gone; `cause` is the driver's own error. */
export class ServerError extends Error {
  /** 0 if it is not the server's. */
  readonly number: number;
  /** The connection is of no use any more, and what it was asked for may have been done. */
  readonly lost: boolean;

  constructor(cause: Error, lost: boolean) {
    super(cause.message, { cause });
    this.name = 'ServerError';
    this.number = 'errno' in cause && typeof cause.errno === 'number' && cause.errno > 0 ? cause.errno : 0;
    this.lost = lost;
  }
}

/** What a statement without rows has done. */
export interface Outcome {
  /** For UPDATE the rows found, changed or not. */
  readonly rows: number;
  readonly warnings: number;
}

export type Bound = string | number | null | Buffer;

/** Whether the server still has the session of an id; throws what says nothing about it. */
export type IsAlive = (id: number) => Promise<boolean>;

/** How long an answer may take before the server is asked over another connection whether it works on one, ms. */
const SILENCE_MS = 15_000;

/**
 * Strict, so that what does not fit is an error or a warning and never a silent change; English, so that
 * warnings can be understood; UTC. Locks of tables are waited for in slices of a second: whoever waits for one
 * keeps later readers waiting too. A server waits half a minute for the next packet of LOAD DATA, but a
 * source may think longer; a server that counts no notes would keep quiet about rounded decimals.
 */
const SETTINGS = `SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,NO_ENGINE_SUBSTITUTION',
  time_zone = '+00:00', lc_messages = 'en_US', autocommit = 1, lock_wait_timeout = 1, innodb_lock_wait_timeout = 5,
  net_read_timeout = 86400, net_write_timeout = 600, sql_notes = 1, max_error_count = 64`;
/** MariaDB ends any statement after a time that an administrator may have set; a load takes as long as it takes. */
const MARIADB_SETTINGS = 'SET SESSION max_statement_time = 0';

/** Best first. The last one pads: it takes "a" and "a " for equal, but there is no other on old servers. */
const COLLATIONS = ['utf8mb4_nopad_bin', 'utf8mb4_0900_bin', 'utf8mb4_bin'];

type ServerFacts = Pick<Session, 'flavor' | 'local_infile' | 'max_packet'>;

const UNKNOWN: ServerFacts = {
  flavor: { mariadb: false, collation: 'utf8mb4_bin' },
  local_infile: false,
  max_packet: 1024,
};

export class Session {
  readonly id: number;
  /** How messages call the database. */
  readonly database: string;
  readonly flavor: Flavor;
  /** Whether the server takes LOAD DATA LOCAL. */
  readonly local_infile: boolean;
  /** The most bytes of one statement with its values. */
  readonly max_packet: number;
  readonly #connection: Connection;
  readonly #isAlive: IsAlive;
  #lost = false;

  /** Of a connection that is ready for queries and nobody else's. */
  static async of(connection: Connection, database: string, isAlive: IsAlive): Promise<Session> {
    // An error of a connection at rest is told by its next statement.
    connection.on('error', () => {});
    const bare = new Session(connection, database, isAlive, UNKNOWN);
    await bare.run(SETTINGS);
    const [server] = await bare.query<{ version: string; local_infile: number; max_packet: number }>(
      'SELECT VERSION() AS version, @@GLOBAL.local_infile AS local_infile, @@SESSION.max_allowed_packet AS max_packet',
    );
    if (server === undefined) throw new Error('the server tells nothing of itself');
    const known = await bare.query<{ name: string }>(
      `SELECT COLLATION_NAME AS name FROM information_schema.COLLATIONS WHERE COLLATION_NAME IN (${COLLATIONS.map((name) => `'${name}'`)})`,
    );
    const mariadb = /mariadb/i.test(server.version);
    if (mariadb) await bare.run(MARIADB_SETTINGS);
    const collation = COLLATIONS.find((name) => known.some((each) => each.name === name)) ?? 'utf8mb4_bin';
    return new Session(connection, database, isAlive, {
      flavor: { mariadb, collation },
      local_infile: Number(server.local_infile) === 1,
      max_packet: Number(server.max_packet),
    });
  }

  private constructor(connection: Connection, database: string, isAlive: IsAlive, server: ServerFacts) {
    this.#connection = connection;
    this.database = database;
    this.id = connection.threadId ?? 0;
    this.#isAlive = isAlive;
    this.flavor = server.flavor;
    this.local_infile = server.local_infile;
    this.max_packet = server.max_packet;
  }

  /** False once it was destroyed or the connection was found lost. */
  get usable(): boolean {
    return !this.#lost;
  }

  /** The rows of a statement. With values it is prepared, and stays so on this connection. */
  async query<Row extends object>(sql: string, values?: readonly Bound[]): Promise<Row[]> {
    return (await this.#send<unknown>(sql, values)) as Row[];
  }

  async run(sql: string, values?: readonly Bound[]): Promise<Outcome> {
    return outcomeOf(await this.#send<ResultSetHeader>(sql, values));
  }

  /** LOAD DATA LOCAL of a stream; what fails the stream must also destroy the session: see `loadLines`. */
  async load(sql: string, open: () => Readable): Promise<Outcome> {
    return this.#guarded(
      new Promise((resolve, reject) => {
        this.#connection.query<ResultSetHeader>({ sql, infileStreamFactory: open }, (error, result) => {
          if (error === null) resolve(outcomeOf(result));
          else reject(error);
        });
      }),
    );
  }

  /** Cuts the connection at once; a statement under way rejects, and ends in the server when that notices. */
  destroy(): void {
    this.#lost = true;
    // Not Connection.destroy(), which waits for what is still to be sent and forgets who waits for an answer.
    socketOf(this.#connection).destroy();
  }

  #send<T>(sql: string, values: readonly Bound[] | undefined): Promise<T> {
    return this.#guarded(
      new Promise<T>((resolve, reject) => {
        const answered = (error: Error | null, result: unknown) => {
          if (error === null) resolve(result as T);
          else reject(error);
        };
        if (values === undefined) this.#connection.query(sql, answered);
        else this.#connection.execute(sql, [...values], answered);
      }),
    );
  }

  /** Cuts the connection if the server no longer knows it, or cannot be reached by another one. */
  async #guarded<T>(answer: Promise<T>): Promise<T> {
    let asking = false;
    const timer = setInterval(() => {
      if (asking) return;
      asking = true;
      this.#isAlive(this.id)
        .catch(() => true) // refused for another reason, too many connections say: no news
        .then((alive) => {
          if (!alive) this.destroy();
        })
        .finally(() => {
          asking = false;
        });
    }, SILENCE_MS);
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const told = serverError(error);
      if (told.lost) this.destroy();
      throw told;
    } finally {
      clearInterval(timer);
    }
  }
}

function outcomeOf(header: ResultSetHeader): Outcome {
  return { rows: header.affectedRows, warnings: header.warningStatus };
}

function socketOf(connection: Connection): { destroy(): void } {
  // The driver's types keep quiet about its socket.
  return (connection as unknown as { readonly stream: { destroy(): void } }).stream;
}

/** Error numbers of MySQL and MariaDB that are handled here and not only told. */
export const ER = {
  TABLE_EXISTS: 1050,
  BAD_TABLE: 1051,
  DUP_ENTRY: 1062,
  NO_SUCH_THREAD: 1094,
  NO_SUCH_TABLE: 1146,
  LOCK_WAIT_TIMEOUT: 1205,
  DEADLOCK: 1213,
} as const;

/** The server's error number, 0 if the error is not the server's. */
export function errorNumber(error: unknown): number {
  return error instanceof ServerError ? error.number : 0;
}

/** Whether the connection was lost under a statement. */
export function isLost(error: unknown): boolean {
  return error instanceof ServerError && error.lost;
}

/** The server shuts down, or has ended this session: killed, silent for too long, sent more than it takes. */
const LAST_WORDS: ReadonlySet<number> = new Set([
  1053, 1152, 1153, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 4031,
]);

function serverError(error: Error): ServerError {
  const fatal = 'fatal' in error && error.fatal === true;
  const number = 'errno' in error && typeof error.errno === 'number' ? error.errno : 0;
  return new ServerError(error, fatal || number <= 0 || LAST_WORDS.has(number));
}

/** The database cannot be used just now; the same statement may work later. */
const UNAVAILABLE: ReadonlySet<number> = new Set([
  1021, // disk full
  1037,
  1038,
  1041, // out of memory
  1040,
  1203,
  1226, // too many connections
  1047, // a Galera node that is not ready
  1053,
  1927,
  3032, // shutdown, killed, offline
  1114, // the table is full: so is the disk
  1205,
  1213, // locks
  1290,
  1792,
  1836, // read-only
]);
/** Ended by somebody, or by a time that the server sets. */
const PASSING: ReadonlySet<number> = new Set([1317, 1969, 3024, 1180]);

/** A server's error as one of ours. The messages of these errors quote no values: see results-load.ts. */
export function failureOfServer(error: ServerError, database: string): DatabaseError {
  const { number, cause } = error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  if (error.lost) {
    return new DatabaseError(
      'unavailable',
      `${database}: the connection was lost (${code === '' ? error.message : code})`,
      { cause: error },
    );
  }
  // Error 28 of the operating system, in whatever the server was doing.
  if (UNAVAILABLE.has(number) || /\b28\b.*No space left/.test(error.message)) {
    return new DatabaseError('unavailable', `${database}: ${error.message}`, { cause: error });
  }
  return new DatabaseError('query_failed', `${database}: ${error.message}`, {
    cause: error,
    transient: PASSING.has(number),
  });
}
