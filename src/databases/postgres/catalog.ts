/**
 * The catalog of a results backend: tables of our own beside the result tables, in one schema, and the
 * statements on them. Texts are quoted, numbers are checked: a batch is sent as one simple query.
 */
import { hash, randomBytes } from 'node:crypto';
import type pg from 'pg';
import { digest } from '../../util/digest.ts';
import type { Owner, ResultColumn, ResultTable } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { tableNames } from '../names.ts';
import { type Answer, run } from './batch.ts';
import { sqlState } from './failure.ts';
import { quoteLiteral, quoteName } from './quote.ts';
import { MOST_NAME_BYTES } from './results-columns.ts';

/** What this program reads and writes. A later one migrates from here; an older one refuses what it finds. */
const VERSION = 1;
/** Fences are remembered for a day: longer than any attempt sleeps and comes back. */
const REMEMBERED_MS = 24 * 3600 * 1000;
/** Any constant: who holds it makes the catalog. */
const CREATING = '4919423605478812307';
const NOW = 'floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

export interface Expired {
  readonly job_id: string;
  readonly expires_at: number;
}

export interface Unsettled {
  readonly job_id: string;
  readonly fence: number;
  readonly seq: number;
}

/** What stands in the way of a job's table, read under the job's lock. */
export interface State {
  /** The newest fence of the attempt's store that has begun or written the table; null: none. */
  readonly newest: number | null;
  /** The job's published table. */
  readonly earlier: string | null;
  /** Names of the job that other jobs' tables have. */
  readonly taken: readonly string[];
  /** What is there under the job's names, by Postgres' letter for its kind. */
  readonly there: Readonly<Record<string, string>>;
}

/** A job's table as the catalog has it, and what is really there under its name. */
export interface Published {
  readonly table: string;
  readonly store_id: string;
  readonly fence: number;
  readonly expired: boolean;
  readonly kind: string | null;
}

export interface Publication {
  readonly owner: Owner;
  readonly table: string;
  readonly columns: readonly ResultColumn[];
  readonly rows: number;
  readonly bytes: number;
  readonly ttl_ms: number | null;
  readonly warnings: readonly string[];
}

export class Catalog {
  readonly schema: string;
  readonly #template: string;
  readonly #results: string;
  readonly #fences: string;
  /** Holds one row until a crash of the server empties it. */
  readonly #survivor: string;
  /** Connections that know the prepared statements. */
  readonly #prepared = new WeakSet<pg.Client>();
  /** The schema's OID, as SQL. */
  readonly #namespace: string;
  /** Of the names of prepared statements: a connection may outlive a change of the search_path. */
  readonly #suffix: string;

  private constructor(schema: string, template: string) {
    this.schema = schema;
    this.#template = template;
    this.#results = this.qualified('dungbeetle_results');
    this.#fences = this.qualified('dungbeetle_fences');
    this.#survivor = this.qualified('dungbeetle_unlogged');
    this.#namespace = `${quoteLiteral(quoteName(schema))}::regnamespace`;
    this.#suffix = digest(schema, 12);
  }

  /** Finds the catalog in the session's first schema, or makes it there. Safe for any number of processes at once. */
  static async open(client: pg.Client, template: string, database: string): Promise<Catalog> {
    const { rows } = await client.query<{ schema: string | null }>('SELECT current_schema() AS schema');
    const schema = rows[0]?.schema ?? null;
    if (schema === null) {
      throw new DatabaseError('query_failed', `${database}: the search_path names no schema that exists`);
    }
    const catalog = new Catalog(schema, template);
    if ((await catalog.#version(client)) === null) await catalog.#create(client);
    const version = await catalog.#version(client);
    if (version !== VERSION) {
      throw new DatabaseError(
        'query_failed',
        `${database}: its catalog has version ${version}, this program knows version ${VERSION}; upgrade the program`,
      );
    }
    return catalog;
  }

  /** Throws a `DatabaseError` if this role may not make tables, or not write down which there are. */
  async check(client: pg.Client, database: string): Promise<void> {
    const table = this.qualified(`dungbeetle_check_${randomBytes(8).toString('hex')}`);
    await client.query(`BEGIN; CREATE TABLE ${table} (n bigint); DROP TABLE ${table}; ROLLBACK`);
    const { rows } = await client.query<{ right: string }>(
      `SELECT "right" FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS rights ("right"),
         unnest(ARRAY[$1, $2]) AS tables (name) WHERE NOT has_table_privilege(name, "right")`,
      [this.#results, this.#fences],
    );
    const missing = [...new Set(rows.map(({ right }) => right))].join(', ');
    if (missing === '') return;
    throw new DatabaseError(
      'query_failed',
      `${database}: the role may not ${missing} in the tables ${this.#results} and ${this.#fences}, which another role made`,
    );
  }

  /** A name in the catalog's schema, quoted. */
  qualified(name: string): string {
    return `${quoteName(this.schema)}.${quoteName(name)}`;
  }

  /** Names that the job's table may have, best first. */
  namesOf(job_id: string): readonly string[] {
    return tableNames(this.#template, job_id, MOST_NAME_BYTES).filter((name) => !isReserved(name));
  }

  /** Whether a table that the catalog does not know may be taken for one of ours by its name. */
  get hasOwnNames(): boolean {
    return this.#template.replaceAll('%s', '') !== '';
  }

  /**
   * Notes that an attempt has begun, and reads the job's state. null: a newer attempt of its store has begun.
   * One prepared statement, as every report pays for it.
   */
  async begin(client: pg.Client, { job_id, store_id, fence }: Owner): Promise<State | null> {
    await this.prepare(client);
    const { rows } = await client.query<{ begun: boolean; state: State }>({
      name: `dungbeetle_begin_${this.#suffix}`,
      text: `WITH begun AS (
        INSERT INTO ${this.#fences} AS noted (job_id, store_id, fence, noted_at)
        SELECT $1, $2, $3::bigint, ${NOW} WHERE NOT EXISTS
          (SELECT FROM ${this.#results} WHERE job_id = $1 AND store_id = $2 AND fence > $3::bigint)
        ON CONFLICT (job_id) DO UPDATE
          SET store_id = excluded.store_id, fence = excluded.fence, noted_at = excluded.noted_at
          WHERE noted.store_id <> excluded.store_id OR noted.fence <= excluded.fence
        RETURNING 1)
        SELECT EXISTS (SELECT FROM begun) AS begun, ${this.#state('$1', '$2', '$4::text[]')} AS state`,
      values: [job_id, store_id, fence, this.namesOf(job_id)],
    });
    return rows[0]?.begun === true ? rows[0].state : null;
  }

  /**
   * Waits until no other session writes the jobs' tables; held until the transaction ends. Always in one order, so that no
   * two sessions wait for each other.
   */
  lock(...job_ids: readonly string[]): string {
    const keys = job_ids.map((job_id) => this.#key(job_id)).sort();
    return `SELECT ${keys.map((key) => `pg_catalog.pg_advisory_xact_lock(${key})`).join(', ')}`;
  }

  /** The same without waiting: one row, "t" or "f". */
  tryLock(job_id: string): string {
    return `SELECT pg_catalog.pg_try_advisory_xact_lock(${this.#key(job_id)})`;
  }

  /** Reads a `State`, to be decoded with `stateOf`. */
  state(job_id: string, store_id: string): string {
    const names = this.namesOf(job_id).map(quoteLiteral).join(', ');
    return `SELECT ${this.#state(quoteLiteral(job_id), quoteLiteral(store_id), `ARRAY[${names}]`)}`;
  }

  #state(job: string, store: string, names: string): string {
    return `json_build_object(
      'newest', (SELECT max(fence) FROM (
        SELECT fence FROM ${this.#results} WHERE job_id = ${job} AND store_id = ${store}
        UNION ALL SELECT fence FROM ${this.#fences} WHERE job_id = ${job} AND store_id = ${store}) AS known),
      'earlier', (SELECT table_name FROM ${this.#results} WHERE job_id = ${job}),
      'taken', (SELECT coalesce(json_agg(table_name), '[]') FROM ${this.#results}
        WHERE table_name = ANY (${names}) AND job_id <> ${job}),
      'there', (SELECT coalesce(json_object_agg(relname, relkind), '{}') FROM pg_catalog.pg_class
        WHERE relnamespace = ${this.#namespace} AND relname = ANY (${names} ||
          (SELECT table_name FROM ${this.#results} WHERE job_id = ${job}))))`;
  }

  /**
   * Writes the job's row, and answers with its expiry. Fails (23502) if a newer attempt has begun, or the job
   * has a table of another name, which would be forgotten. Only on a connection on which `prepare` or `begin` was called.
   */
  publish({ owner, table, columns, rows, bytes, ttl_ms, warnings }: Publication): string {
    const values = [
      quoteLiteral(owner.job_id),
      quoteLiteral(table),
      quoteLiteral(owner.task),
      quoteLiteral(owner.store_id),
      whole(owner.fence),
      whole(owner.attempt),
      whole(rows),
      whole(bytes),
      quoteLiteral(JSON.stringify(columns)),
      quoteLiteral(JSON.stringify(warnings)),
      ttl_ms === null ? 'NULL' : whole(Math.ceil(ttl_ms)),
      whole(owner.seq),
    ];
    return `EXECUTE dungbeetle_publish_${this.#suffix}(${values.join(', ')})`;
  }

  /** Has the connection know the statement that `publish` runs. */
  async prepare(client: pg.Client): Promise<void> {
    if (this.#prepared.has(client)) return;
    try {
      await client.query(this.#preparation());
    } catch (error) {
      // Prepared for a catalog that was dropped: the server reads the statement again for the new one.
      if (sqlState(error) !== '42P05') throw error;
    }
    this.#prepared.add(client);
  }

  #preparation(): string {
    const newer = 'job_id = $1 AND store_id = $4 AND fence > $5';
    return `PREPARE dungbeetle_publish_${this.#suffix}(text, text, text, text, bigint, int, bigint, bigint, text, text, bigint, bigint) AS
      WITH forgotten AS (DELETE FROM ${this.#fences} WHERE job_id = $1)
      INSERT INTO ${this.#results} (job_id, table_name, task, store_id, fence, attempt, rows, bytes, columns, warnings,
        created_at, expires_at, settled, seq)
      SELECT $1, $2, $3, $4, $5, $6,
        CASE WHEN NOT EXISTS (SELECT FROM ${this.#results} WHERE ${newer})
          AND NOT EXISTS (SELECT FROM ${this.#fences} WHERE ${newer})
          AND NOT EXISTS (SELECT FROM ${this.#results} WHERE job_id = $1 AND table_name <> $2) THEN $7 END,
        $8, $9, $10, now_ms, now_ms + $11, false, $12
      FROM (SELECT ${NOW} AS now_ms) AS clock
      ON CONFLICT (job_id) DO UPDATE SET table_name = excluded.table_name, task = excluded.task,
        store_id = excluded.store_id, fence = excluded.fence, attempt = excluded.attempt, rows = excluded.rows,
        bytes = excluded.bytes, columns = excluded.columns, warnings = excluded.warnings,
        created_at = excluded.created_at, expires_at = excluded.expires_at, settled = false, seq = excluded.seq
      RETURNING expires_at`;
  }

  /** Takes the job's row away and remembers its fence, so that a zombie cannot bring the table back. */
  forget(job_id: string): string {
    const job = quoteLiteral(job_id);
    return `INSERT INTO ${this.#fences} AS noted (job_id, store_id, fence, noted_at)
      SELECT job_id, store_id, fence, ${NOW} FROM ${this.#results} WHERE job_id = ${job}
      ON CONFLICT (job_id) DO UPDATE SET store_id = excluded.store_id, noted_at = excluded.noted_at,
        fence = CASE WHEN noted.store_id = excluded.store_id THEN greatest(noted.fence, excluded.fence)
          ELSE excluded.fence END;
    DELETE FROM ${this.#results} WHERE job_id = ${job}`;
  }

  /** The job's table, if this attempt has published it. */
  async publishedBy(client: pg.Client, owner: Owner): Promise<ResultTable | null> {
    const { rows } = await client.query<Record<string, string | null>>(
      `SELECT table_name, columns, rows::text, bytes::text, expires_at::text, warnings FROM ${this.#results}
       WHERE job_id = $1 AND store_id = $2 AND fence = $3::bigint`,
      [owner.job_id, owner.store_id, owner.fence],
    );
    const row = rows[0];
    if (row === undefined) return null;
    const expires_at = row['expires_at'] ?? null;
    return {
      table: row['table_name'] ?? '',
      columns: JSON.parse(row['columns'] ?? '') as ResultColumn[],
      rows: Number(row['rows']),
      bytes: Number(row['bytes']),
      expires_at: expires_at === null ? null : Number(expires_at),
      warnings: JSON.parse(row['warnings'] ?? '') as string[],
    };
  }

  /** Tables past their expiry, oldest first, after the one given. */
  async expired(client: pg.Client, after: Expired | null, most: number): Promise<readonly Expired[]> {
    const { rows } = await client.query<{ job_id: string; expires_at: string }>(
      `SELECT job_id, expires_at FROM ${this.#results}
       WHERE expires_at <= ${NOW} AND (expires_at, job_id) > ($1::bigint, $2)
       ORDER BY expires_at, job_id LIMIT $3`,
      [after?.expires_at ?? 0, after?.job_id ?? '', most],
    );
    return rows.map(({ job_id, expires_at }) => ({ job_id, expires_at: Number(expires_at) }));
  }

  /** Reads a `Published`, to be decoded with `publishedOf`. */
  published(job_id: string): string {
    return `SELECT table_name, store_id, fence, coalesce(expires_at <= ${NOW}, false),
      (SELECT relkind FROM pg_catalog.pg_class
        WHERE relnamespace = ${this.#namespace} AND relname = table_name)
      FROM ${this.#results} WHERE job_id = ${quoteLiteral(job_id)}`;
  }

  /** Tables of a store that nobody has judged yet. */
  async unsettled(client: pg.Client, store_id: string): Promise<readonly Unsettled[]> {
    const { rows } = await client.query<{ job_id: string; fence: string; seq: string }>(
      `SELECT job_id, fence, seq FROM ${this.#results} WHERE store_id = $1 AND NOT settled`,
      [store_id],
    );
    return rows.map(({ job_id, fence, seq }) => ({ job_id, fence: Number(fence), seq: Number(seq) }));
  }

  /** Marks a table as wanted, if it is still that attempt's. */
  async settle(client: pg.Client, job_id: string, store_id: string, fence: number): Promise<void> {
    await client.query(
      `UPDATE ${this.#results} SET settled = true WHERE job_id = $1 AND store_id = $2 AND fence = $3::bigint`,
      [job_id, store_id, fence],
    );
  }

  async forgetOldFences(client: pg.Client): Promise<void> {
    await client.query(`DELETE FROM ${this.#fences} WHERE noted_at < ${NOW} - ${REMEMBERED_MS}`);
  }

  /** Whether the server has crashed since `noteCrash`. */
  async hasCrashed(client: pg.Client): Promise<boolean> {
    const { rows } = await client.query(`SELECT FROM ${this.#survivor}`);
    return rows.length === 0;
  }

  async noteCrash(client: pg.Client): Promise<void> {
    await client.query(`INSERT INTO ${this.#survivor} DEFAULT VALUES ON CONFLICT DO NOTHING`);
  }

  /** Tables that should have rows and have none, and are not kept through a crash. */
  async emptied(client: pg.Client): Promise<readonly Pick<Owner, 'job_id' | 'store_id' | 'fence'>[]> {
    const { rows } = await client.query<{
      job_id: string;
      store_id: string;
      fence: string;
      table_name: string;
    }>(
      `SELECT job_id, store_id, fence, table_name FROM ${this.#results} JOIN pg_catalog.pg_class
         ON relname = table_name AND relnamespace = ${this.#namespace}
       WHERE rows > 0 AND relkind = 'r' AND relpersistence = 'u'`,
    );
    const emptied: Pick<Owner, 'job_id' | 'store_id' | 'fence'>[] = [];
    for (const { job_id, store_id, fence, table_name } of rows) {
      if (await this.#isEmpty(client, table_name)) emptied.push({ job_id, store_id, fence: Number(fence) });
    }
    return emptied;
  }

  async #isEmpty(client: pg.Client, table: string): Promise<boolean> {
    try {
      const { rows } = await client.query(`SELECT FROM ${this.qualified(table)} LIMIT 1`);
      return rows.length === 0;
    } catch (error) {
      // Dropped or replaced meanwhile, or somebody holds it: the next sweep looks again.
      if (sqlState(error) === '42P01') return false;
      throw error;
    }
  }

  /** Of the schema, as a number for advisory locks. */
  #key(job_id: string): string {
    return hash('sha256', JSON.stringify(['dungbeetle', this.schema, job_id]), 'buffer')
      .readBigInt64BE(0)
      .toString();
  }

  /** null: there is no catalog. */
  async #version(client: pg.Client): Promise<number | null> {
    try {
      const { rows } = await client.query<{ version: number }>(
        `SELECT version FROM ${this.qualified('dungbeetle_version')}`,
      );
      return rows[0]?.version ?? null;
    } catch (error) {
      if (sqlState(error) === '42P01') return null;
      throw error;
    }
  }

  /**
   * The fences are not logged: a crash of the server ends every session that could write with an old one. (And a
   * commit of unlogged rows does not wait for the disk.)
   */
  async #create(client: pg.Client): Promise<void> {
    await run(client, [
      'BEGIN',
      'SET LOCAL lock_timeout = 10000',
      `SELECT pg_catalog.pg_advisory_xact_lock(${CREATING})`,
      `CREATE TABLE IF NOT EXISTS ${this.#results} (
        job_id text PRIMARY KEY,
        table_name text NOT NULL UNIQUE,
        task text NOT NULL,
        store_id text NOT NULL,
        fence bigint NOT NULL,
        attempt integer NOT NULL,
        rows bigint NOT NULL,
        bytes bigint NOT NULL,
        columns text NOT NULL,
        warnings text NOT NULL,
        created_at bigint NOT NULL,
        expires_at bigint,
        settled boolean NOT NULL,
        seq bigint NOT NULL)`,
      `CREATE INDEX IF NOT EXISTS dungbeetle_results_expiry ON ${this.#results} (expires_at, job_id)
        WHERE expires_at IS NOT NULL`,
      `CREATE INDEX IF NOT EXISTS dungbeetle_results_unsettled ON ${this.#results} (store_id) WHERE NOT settled`,
      `CREATE UNLOGGED TABLE IF NOT EXISTS ${this.#fences} (
        job_id text PRIMARY KEY,
        store_id text NOT NULL,
        fence bigint NOT NULL,
        noted_at bigint NOT NULL)`,
      `CREATE UNLOGGED TABLE IF NOT EXISTS ${this.#survivor} (one boolean PRIMARY KEY DEFAULT true CHECK (one))`,
      `INSERT INTO ${this.#survivor} DEFAULT VALUES ON CONFLICT DO NOTHING`,
      `CREATE TABLE IF NOT EXISTS ${this.qualified('dungbeetle_version')} (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL)`,
      `INSERT INTO ${this.qualified('dungbeetle_version')} (version) VALUES (${VERSION}) ON CONFLICT DO NOTHING`,
      'COMMIT',
    ]);
  }
}

/** Whether it is an ordinary table, by pg_class.relkind. */
export function isTable(kind: string | null): boolean {
  return kind === 'r';
}

export function stateOf(answer: Answer | undefined): State {
  return JSON.parse(answer?.rows[0]?.[0] ?? '') as State;
}

/** null: the job has no table. */
export function publishedOf(answer: Answer | undefined): Published | null {
  const row = answer?.rows[0];
  if (row === undefined) return null;
  const [table, store_id, fence, expired, kind] = row;
  return {
    table: table ?? '',
    store_id: store_id ?? '',
    fence: Number(fence),
    expired: expired === 't',
    kind: kind ?? null,
  };
}

/** Names that are the backend's own, and never a result table's. */
function isReserved(name: string): boolean {
  return /^dungbeetle_(results(_pkey|_table_name_key|_expiry|_unsettled)?|fences(_pkey)?|unlogged(_pkey)?|version(_pkey)?|staging_[0-9a-f]{16})$/.test(
    name,
  );
}

function whole(number: number): string {
  if (!Number.isSafeInteger(number)) throw new TypeError('not a whole number');
  return String(number);
}
