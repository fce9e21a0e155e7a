/** A connection to Postgres that the store owns: it is made in time, and every question to it is answered in time. */
import type { Socket } from 'node:net';
import pg from 'pg';
import type { PostgresConfig } from '../../../util/postgres/dsn.ts';
import { checkTarget, clientOptions, login, reach, type Try } from '../../../util/postgres/ways.ts';
import { StoreUnavailable } from '../../errors.ts';

/** How long a silent connection is trusted before the kernel asks, ms. */
const KEEPALIVE_MS = 10_000;

/** Each call looks at what others have committed before its locks were had, and not before it began. */
const ISOLATION = 'read committed';

/** Sets all of an object but our time limit, ms, where the role or the database has set a stricter one. */
const SET = `SELECT set_config(name, value, false) FROM json_each_text($1) AS s (name, value)
  UNION ALL SELECT set_config('statement_timeout', $2, false)
  WHERE current_setting('statement_timeout') = '0' OR current_setting('statement_timeout')::interval > ($2 || 'ms')::interval`;

/** int8: the store's numbers are below 2^53. */
const INT8 = 20;
const INT8_ARRAY = 1016;

/** `{"a",1,NULL}` of texts and numbers: what pg does itself takes it several times as long. */
function toArrayText(items: readonly unknown[]): string {
  const texts = items.map((item) => {
    if (typeof item !== 'string') return item === null || item === undefined ? 'NULL' : String(item);
    return `"${/["\\]/.test(item) ? item.replaceAll(/["\\]/g, '\\$&') : item}"`;
  });
  return `{${texts.join(',')}}`;
}

/** Statements that are prepared, by their text: the server parses each once a session. There are as many as in the code. */
const names = new Map<string, string>();

function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `dungbeetle_${names.size + 1}`;
    names.set(text, name);
  }
  return name;
}

/** `{1,NULL,3}` of numbers. */
function toNumbers(text: string): (number | null)[] {
  if (text === '{}') return [];
  return text
    .slice(1, -1)
    .split(',')
    .map((item) => (item === 'NULL' ? null : Number(item)));
}

function getTypeParser(oid: number): (text: string) => unknown {
  if (oid === INT8) return Number;
  if (oid === INT8_ARRAY) return toNumbers;
  return pg.types.getTypeParser(oid);
}

export interface ConnectionOptions {
  readonly config: PostgresConfig;
  /** The longest that one server may take to let us in, ms. */
  readonly connect_timeout_ms: number;
  /** How long an answer is waited for before the connection is given up, ms. */
  readonly command_timeout_ms: number;
  readonly application_name: string;
}

export class Connection {
  readonly #client: pg.Client;
  /** Whether a pooler hands each transaction to another session: then nothing of a session can be relied upon. */
  readonly isPooled: boolean;
  /** Called once, when it is of no use any more. */
  onLost: (() => void) | undefined;
  readonly #command_timeout_ms: number;
  #isLost = false;

  private constructor(client: pg.Client, isPooled: boolean, command_timeout_ms: number) {
    this.#client = client;
    this.#command_timeout_ms = command_timeout_ms;
    this.isPooled = isPooled;
    // 'end' follows every error.
    client.on('end', () => this.#lose());
  }

  /** Rejects with what the server, the network or TLS said. */
  static async open(options: ConnectionOptions): Promise<Connection> {
    const { config, connect_timeout_ms, command_timeout_ms, application_name } = options;
    const named = { ...config, application_name: config.application_name ?? application_name };
    const late = () => new Error(`no answer within ${connect_timeout_ms / 1000} s`);
    return reach(config, { connect_timeout_ms, late }, (one) => openOne(named, one, command_timeout_ms));
  }

  static async of(
    client: pg.Client,
    settings: Readonly<Record<string, string>>,
    command_timeout_ms: number,
  ): Promise<Connection> {
    const { rows } = await client.query<{ pid: number; isolation: string }>(
      `SELECT pg_backend_pid() AS pid, current_setting('default_transaction_isolation') AS isolation`,
    );
    // A pooler makes up process ids of its own. What was set on its sessions would stay for others.
    const isPooled = rows[0]?.pid !== processId(client);
    if (!isPooled) {
      // So that the server's own answer comes before that.
      const statement_timeout = String(Math.ceil(command_timeout_ms * 0.8));
      const wanted = { default_transaction_isolation: ISOLATION, ...settings };
      await client.query(SET, [JSON.stringify(wanted), statement_timeout]);
    } else if (rows[0]?.isolation !== ISOLATION) {
      throw StoreUnavailable(
        `its sessions behind the pooler begin transactions as "${rows[0]?.isolation}": set default_transaction_isolation to "${ISOLATION}" for the role`,
      );
    }
    return new Connection(client, isPooled, command_timeout_ms);
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  /**
   * Rows as arrays. A connection that does not answer in time is destroyed: whether the statement was carried out is
   * then not known. It need not be idle: the server carries out one after the other, each a transaction by itself.
   */
  async query<Row extends readonly unknown[]>(text: string, values: readonly unknown[]): Promise<Row[]> {
    const timer = setTimeout(() => this.destroy(), this.#command_timeout_ms);
    try {
      const { rows } = await this.#client.query<Row[number][]>({
        name: this.isPooled ? undefined : nameOf(text),
        text,
        values: values.map((value) => (Array.isArray(value) ? toArrayText(value) : value)),
        rowMode: 'array',
      });
      // The statement says what its rows are.
      return rows as unknown as Row[];
    } finally {
      clearTimeout(timer);
    }
  }

  /** Several statements without parameters, or one. */
  async script(text: string): Promise<void> {
    await this.#client.query(text);
  }

  onNotification(listener: (payload: string) => void): void {
    this.#client.on('notification', ({ payload = '' }) => listener(payload));
  }

  /** Ends it at once, whatever it is doing. The server rolls back. */
  destroy(): void {
    // pg says Duplex, for runtimes other than Node.
    (this.#client.connection.stream as Socket).destroy();
    this.#lose();
  }

  async close(): Promise<void> {
    if (this.#isLost) return;
    const timer = setTimeout(() => this.destroy(), 1_000);
    await this.#client.end().finally(() => clearTimeout(timer));
  }

  #lose(): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.onLost?.();
  }
}

async function openOne(config: PostgresConfig, one: Try, command_timeout_ms: number): Promise<Connection> {
  const { target, signal } = one;
  const client = new pg.Client({
    ...clientOptions(config, one),
    // What is asked while another is under way is sent at once.
    pipeline: true,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_MS,
    types: { getTypeParser },
  });
  client.on('error', () => {
    // Without a listener it would end the process. Whoever waits for an answer gets the error as its answer, and
    // 'end' follows for the others.
  });
  const abort = () => (client.connection.stream as Socket).destroy();
  signal.addEventListener('abort', abort);
  try {
    signal.throwIfAborted();
    await login(client, config);
    await checkTarget(client, target);
    const connection = await Connection.of(client, config.settings, command_timeout_ms);
    signal.throwIfAborted();
    return connection;
  } catch (error) {
    abort();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** As the server told it at the login. */
function processId(client: pg.Client): unknown {
  return 'processID' in client ? client.processID : undefined;
}
