/** Results backends on Postgres for tests, result sets to write to them, and a look at what they left. */

import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type {
  Chunk,
  Column,
  Owner,
  ResultSet,
  Value,
  WriteOptions,
} from '../../../src/databases/database.ts';
import {
  openPostgresResults,
  type PostgresResults,
  type PostgresResultsOptions,
} from '../../../src/databases/postgres/results.ts';
import { proxy } from '../../support/proxy.ts';
import { freshDatabase, type Service } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, writeOptions } from '../support.ts';

export async function openResults(
  t: TestContext,
  dsn: string,
  options: Partial<PostgresResultsOptions> = {},
): Promise<PostgresResults> {
  const results = await openPostgresResults({ name: 'reports', dsn, ...options });
  closing(t, () => results.close());
  return results;
}

/** A results backend behind a proxy, and the address of the server itself. */
export async function proxied(
  t: TestContext,
  server: Service,
  options: Partial<PostgresResultsOptions> = {},
) {
  const dsn = await freshDatabase(t, server);
  const { hostname, port } = new URL(dsn);
  const wire = await proxy(t, { host: hostname, port: Number(port) });
  const results = await openResults(t, wire.through(dsn), {
    patience_ms: 250,
    connect_timeout_ms: 5_000,
    doubt_ms: 1_500,
    ...options,
  });
  return { dsn, wire, results };
}

/** A connection of the test's own, to look at what is there. */
export async function reader(t: TestContext, dsn: string): Promise<pg.Client> {
  const client = new pg.Client(dsn);
  client.on('error', () => {
    // A server that a test ends: the next query says so.
  });
  await client.connect();
  closing(t, () => client.end());
  return client;
}

export function column(name: string, type: Column['type'], fields: Partial<Column> = {}): Column {
  return { name, type, source_type: '', ...fields };
}

export function resultSet(
  columns: readonly Column[],
  body: ResultSet['body'],
  warnings: readonly string[] = [],
): ResultSet {
  return { columns, body, warnings: () => warnings, [Symbol.asyncDispose]: async () => {} };
}

export function rows(columns: readonly Column[], values: readonly (readonly Value[])[]): ResultSet {
  async function* batches() {
    yield values;
  }
  return resultSet(columns, { encoding: 'rows', batches: batches() });
}

export function text(columns: readonly Column[], lines: string): ResultSet {
  async function* chunks(): AsyncGenerator<Chunk, void, void> {
    yield { data: Buffer.from(lines), rows: lines.split('\n').length - 1 };
  }
  return resultSet(columns, { encoding: 'copy-text', chunks: chunks() });
}

/** A tuple of COPY BINARY. */
export function tuple(fields: readonly (Buffer | null)[]): Buffer {
  const parts = [int16(fields.length)];
  for (const field of fields) {
    if (field === null) parts.push(int32(-1));
    else parts.push(int32(field.length), field);
  }
  return Buffer.concat(parts);
}

export function int16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeInt16BE(value);
  return buffer;
}

export function int32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32BE(value);
  return buffer;
}

export function int64(value: bigint): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigInt64BE(value);
  return buffer;
}

export const NUMBERS: readonly Column[] = [column('n', 'BIGINT'), column('label', 'TEXT')];

export interface Numbers {
  /** Called before each chunk, with the rows that have gone before it. */
  readonly before?: (rows: number) => Promise<void> | void;
}

/** Rows 1 to `count` of `NUMBERS` as they come from Postgres, some thousand a chunk. */
export function numbers(count: number, { before }: Numbers = {}): ResultSet {
  async function* chunks(): AsyncGenerator<Chunk, void, void> {
    for (let sent = 0; sent < count; ) {
      await before?.(sent);
      const take = Math.min(2_000, count - sent);
      const tuples = Array.from({ length: take }, (_, index) => {
        const n = sent + index + 1;
        return tuple([int64(BigInt(n)), Buffer.from(`number ${n}`)]);
      });
      sent += take;
      yield { data: Buffer.concat(tuples), rows: take };
    }
    await before?.(count);
  }
  return resultSet(NUMBERS, { encoding: 'pg-binary', chunks: chunks() });
}

/** More rows than are held in memory: these go through a staging table. */
export const MANY = 40_000;

/** A point that a stream or a callback waits at until the test lets it go on. */
export class Gate {
  readonly reached = Promise.withResolvers<void>();
  readonly #open = Promise.withResolvers<void>();

  async pass(): Promise<void> {
    this.reached.resolve();
    await this.#open.promise;
  }

  open(): void {
    this.#open.resolve();
  }
}

export function options(job_id: string, fields: Partial<WriteOptions> = {}, owner: Partial<Owner> = {}) {
  const base = writeOptions(job_id, fields);
  return { ...base, owner: { ...base.owner, ...owner } };
}

/** Names of all tables of the schema but the catalog's. */
export async function tables(client: pg.Client): Promise<readonly string[]> {
  const { rows: found } = await client.query<{ relname: string }>(
    `SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
     AND relname NOT IN ('dungbeetle_results', 'dungbeetle_fences', 'dungbeetle_unlogged', 'dungbeetle_version') ORDER BY 1`,
  );
  return found.map(({ relname }) => relname);
}

/** The result tables that the catalog knows; none where there is no catalog yet. */
export async function catalogued(client: pg.Client): Promise<readonly string[]> {
  const { rows: there } = await client.query("SELECT to_regclass('dungbeetle_results') IS NOT NULL AS there");
  if (there[0]?.there !== true) return [];
  const { rows: found } = await client.query<{ table_name: string }>(
    'SELECT table_name FROM dungbeetle_results ORDER BY 1',
  );
  return found.map(({ table_name }) => table_name);
}

export async function count(client: pg.Client, table: string): Promise<number> {
  const { rows: found } = await client.query<{ count: string }>(`SELECT count(*) FROM "${table}"`);
  return Number(found[0]?.count);
}

/** Waits until no session of a results backend does anything, or waits inside a transaction. */
export async function quiet(client: pg.Client): Promise<void> {
  await until('no session of the backend is at work', async () => {
    const { rows: busy } = await client.query(
      `SELECT FROM pg_stat_activity WHERE application_name = 'dungbeetle results' AND state <> 'idle'
       AND datname = current_database()`,
    );
    return busy.length === 0;
  });
}

/** The rejection of a promise; the test fails if it is not rejected in good time. */
export async function rejection(promise: Promise<unknown>, within_ms = 20_000): Promise<unknown> {
  const clock = new AbortController();
  const late = delay(within_ms, undefined, { signal: clock.signal }).then(
    () => {
      throw new Error(`neither resolved nor rejected within ${within_ms} ms`);
    },
    () => {},
  );
  const outcome = promise.then(
    () => {
      throw new Error('resolved');
    },
    (error: unknown) => ({ error }),
  );
  try {
    const settled = await Promise.race([outcome, late]);
    return settled?.error;
  } finally {
    clock.abort();
  }
}

/** Makes commits of the catalog wait until `go` is called. */
export async function heldCommits(client: pg.Client): Promise<{
  /** The session whose commit waits. */
  reached(): Promise<number>;
  go(): Promise<void>;
  undo(): Promise<void>;
}> {
  await client.query(`
    CREATE TABLE dungbeetle_version_held (x int);
    INSERT INTO dungbeetle_version_held VALUES (1);
    CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        WHILE EXISTS (SELECT FROM dungbeetle_version_held) LOOP PERFORM pg_sleep(0.01); END LOOP;
        RETURN NULL;
      END $$;
    CREATE CONSTRAINT TRIGGER held AFTER INSERT OR UPDATE ON dungbeetle_results
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION held()`);
  return {
    reached: () =>
      until('the commit is under way', async () => {
        const { rows } = await client.query(
          "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
        );
        return rows[0]?.pid as number | undefined;
      }),
    go: async () => {
      await client.query('DELETE FROM dungbeetle_version_held');
    },
    undo: async () => {
      await client.query('DROP TABLE dungbeetle_version_held; DROP FUNCTION held() CASCADE');
    },
  };
}
