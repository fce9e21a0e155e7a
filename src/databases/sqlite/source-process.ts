/** The child process of a source: opens the database read-only for each request and runs one query. */
import { closeSync, existsSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import type { Argument, Column } from '../database.ts';
import { DatabaseError, wrongCount } from '../errors.ts';
import { LARGE_BYTES } from '../large-turn.ts';
import { ValueBound } from '../value-bound.ts';
import { describeColumns, hasComputedReals, typesSeen } from './columns.ts';
import { failureOf, mismatchText, redact, resultCode, SQLITE } from './failure.ts';
import { LargeValues } from './large-values.ts';
import { fileUri } from './quote.ts';
import { checkReadable, RowReader, readerSql, readRows } from './row-reader.ts';
import { serve } from './serve.ts';
import type { QueryRequest, SourceOperations, Staged, Target } from './source-operations.ts';
import { makeStagingFolder } from './staging-file.ts';
import { type ParsedStatement, parseStatement } from './statement.ts';
import { textEncoding } from './text-encoding.ts';

/** How long a query waits for a writer that holds the file (rollback journal), ms. */
const BUSY_MS = 5_000;

/** The query whose rows are being fetched. */
let current: {
  readonly reader: RowReader;
  readonly db: DatabaseSync;
  readonly request: QueryRequest;
} | null = null;
/** How the database of the request in hand is called. */
let database = '';

serve<SourceOperations>(
  {
    ping: (target) =>
      using(target, (db) => {
        // Reads the first page: says whether it is a database at all.
        db.prepare('SELECT count(*) FROM sqlite_schema').get();
        return null;
      }),

    prepare: (request) =>
      using(request, (db) => {
        const { parsed, columns } = compile(db, request.sql);
        return { parameters: parsed.parameters, columns };
      }),

    stage: (request, tell) =>
      using(request, (db) => {
        const query = compile(db, request.sql);
        checkArguments(query.parsed, request.args);
        if (textEncoding(db) !== 'utf-8') return null;
        tell(query.columns);
        return running(request, () => stage(db, query, request));
      }),

    open: (request) => {
      const db = connect(request);
      try {
        db.exec('PRAGMA query_only = ON');
        const { parsed, columns } = compile(db, request.sql);
        checkArguments(parsed, request.args);
        const encoding = textEncoding(db);
        checkReadable(db, columns.length, encoding);
        const bound = new ValueBound(request.limits, database, columns);
        const large = new LargeValues(db, bound);
        limitLength(db, mostBytes(bound));
        const statement = db.prepare(readerSql(parsed.numbered, columns, encoding, large));
        const rows = running(request, () => readRows(statement, bindings(parsed, request.args)));
        current = { reader: new RowReader(rows, columns, encoding, large, bound), db, request };
        return columns;
      } catch (error) {
        db.close();
        throw error;
      }
    },

    fetch: () => {
      if (current === null) throw new Error('there is no query to fetch from');
      const { reader, request } = current;
      try {
        const batch = running(request, () => reader.batch());
        if (batch.done) abandon();
        return batch;
      } catch (error) {
        abandon();
        throw error;
      }
    },

    piece: ({ column }) => {
      if (current === null) throw new Error('there is no query to fetch from');
      return current.reader.piece(column);
    },
  },
  (error) => failureOf(error, database, 'query_failed'),
);

function abandon(): void {
  current?.db.close();
  current = null;
}

function using<T>(target: Target, work: (db: DatabaseSync) => T): T {
  const db = connect(target);
  try {
    return work(db);
  } finally {
    db.close();
  }
}

function connect(target: Target): DatabaseSync {
  database = target.database;
  abandon();
  let db: DatabaseSync | undefined;
  try {
    // Read-only for this file alone: what it attaches can be written. Extensions cannot be loaded.
    db = new DatabaseSync(fileUri(target.path, { mode: 'ro' }), {
      timeout: BUSY_MS,
      enableForeignKeyConstraints: false,
    });
    // Functions and virtual tables in the schema of a file from elsewhere get no say.
    db.exec('PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16384');
    // Opening has read nothing yet.
    db.prepare('PRAGMA schema_version').get();
    return db;
  } catch (error) {
    db?.close();
    if (resultCode(error) === SQLITE.CANTOPEN && !existsSync(target.path)) {
      throw new DatabaseError(
        'unavailable',
        `${database}: its file does not exist (a relative path starts at the folder of the configuration)`,
        { cause: error, refused: true },
      );
    }
    if (UNREADABLE_LOG.has(resultCode(error) ?? 0) && isWal(target.path)) {
      throw new DatabaseError(
        'unavailable',
        `${database}: its file is in WAL mode, so a -wal and a -shm file must be beside it, and they can neither be opened nor made: let this server write to the folder, or take the file out of WAL mode (PRAGMA journal_mode = DELETE)`,
        { cause: error, refused: true },
      );
    }
    throw error;
  }
}

/** What reading a database in WAL mode fails with where its log cannot be opened. */
const UNREADABLE_LOG: ReadonlySet<number> = new Set([SQLITE.CANTOPEN, SQLITE.READONLY]);
/** https://sqlite.org/fileformat2.html#file_format_version_numbers */
const READ_VERSION_AT = 19;
const WAL = 2;

function isWal(path: string): boolean {
  const version = Buffer.alloc(1);
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return false; // SQLite's own error says it.
  }
  try {
    readSync(file, version, 0, 1, READ_VERSION_AT);
  } finally {
    closeSync(file);
  }
  return version[0] === WAL;
}

interface Query {
  readonly parsed: ParsedStatement;
  readonly columns: readonly Column[];
  /** Positions of the columns whose values may be of any kind. */
  readonly unproven: readonly number[];
}

/** Compiles a statement and makes sure that it is one, and that it reads. */
function compile(db: DatabaseSync, sql: string): Query {
  const parsed = parseStatement(sql);
  try {
    const statement = db.prepare(parsed.text);
    if (statement.sourceSQL !== parsed.text) {
      throw new DatabaseError('invalid_statement', 'there is more than one statement');
    }
    const program = db.prepare(`EXPLAIN ${parsed.numbered}`).all();
    if (program.some((step) => step['opcode'] === 'Transaction' && Number(step['p2']) !== 0)) {
      throw new DatabaseError('invalid_statement', 'the statement writes');
    }
    return { parsed, ...describeColumns(db, statement.columns(), parsed) };
  } catch (error) {
    if (error instanceof DatabaseError) throw error;
    const { code, message, transient } = failureOf(error, database, 'invalid_statement');
    throw new DatabaseError(code, message, { cause: error, transient });
  }
}

function checkArguments(parsed: ParsedStatement, args: readonly Argument[]): void {
  if (args.length === parsed.parameters) return;
  throw new DatabaseError('invalid_arguments', wrongCount(args.length, parsed.parameters));
}

/** By name, which every Node does right for numbered parameters. */
function bindings(parsed: ParsedStatement, args: readonly Argument[]): Record<string, SQLInput> {
  const named: Record<string, SQLInput> = {};
  for (const number of parsed.used) {
    named[`?${number}`] = bound(args[number - 1] ?? null);
  }
  return named;
}
type SQLInput = null | string | number | bigint;

function bound(value: Argument): SQLInput {
  if (typeof value === 'boolean') return value ? 1n : 0n;
  // A JSON 5 is the integer 5: as a float it would read '5.0' wherever SQL makes text of it. No integer is -0.
  const whole = typeof value === 'number' && Number.isSafeInteger(value) && !Object.is(value, -0);
  return whole ? BigInt(value) : value;
}

/** Runs what may fail with a message that quotes an argument. */
function running<T>({ args, limits }: QueryRequest, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof DatabaseError) throw error;
    if (resultCode(error) === SQLITE.MISMATCH) {
      throw new DatabaseError('invalid_arguments', `${database}: ${mismatchText(args)} (datatype mismatch)`);
    }
    if (resultCode(error) === SQLITE.TOOBIG) throw new ValueBound(limits, database, []).rowError(null);
    const { code, message, transient } = failureOf(error, database, 'query_failed');
    throw new DatabaseError(code, redact(message, args), { transient });
  }
}

/**
 * To look at the size of each value would double the time of a report. So SQLite refuses the first large one by itself,
 * and the query is begun anew.
 */
function stage(db: DatabaseSync, query: Query, request: SourceOperations['stage']['request']): Staged {
  const bound = new ValueBound(request.limits, database, query.columns);
  const large = new LargeValues(db, bound);
  if (!request.has_large && limitLength(db, large.bytes)) {
    try {
      return stageAll(db, query, request, null);
    } catch (error) {
      if (resultCode(error) !== SQLITE.TOOBIG) throw error;
      db.exec('DETACH stage');
      rmSync(request.file, { force: true });
    }
  }
  limitLength(db, mostBytes(bound));
  return stageAll(db, query, request, large);
}

/** SQLite itself refuses values and rows of more bytes, also those that it only makes on its way. */
function limitLength(db: DatabaseSync, bytes: number): boolean {
  // Older versions of Node have no such limits.
  if (!('limits' in db)) return false;
  db.limits.length = Math.min(bytes, MOST_BYTES);
  return true;
}

/** A row in SQLite's own form is a little larger than its values. */
function mostBytes(bound: ValueBound): number {
  return Math.max(LARGE_BYTES, bound.row) + ROW_OVERHEAD_BYTES;
}

const ROW_OVERHEAD_BYTES = 64 * 1024;
/** SQLite's own limit of a value. */
const MOST_BYTES = 1_000_000_000;

/** One INSERT … SELECT inside of SQLite: no value passes through JavaScript, so none can change. */
function stageAll(
  db: DatabaseSync,
  { parsed, columns, unproven }: Query,
  { args, file, limits: { max_rows } }: SourceOperations['stage']['request'],
  large: LargeValues | null,
): Staged {
  makeStagingFolder(file);
  db.prepare('ATTACH ? AS stage').run(file);
  // The file is worth nothing until it is complete, and then it is read once and removed.
  db.exec(
    'PRAGMA stage.journal_mode = OFF; PRAGMA stage.synchronous = OFF; PRAGMA stage.locking_mode = EXCLUSIVE; PRAGMA stage.cache_size = -8192',
  );
  db.exec(`CREATE TABLE stage.rows (${columns.map((_, index) => `c${index}`).join(', ')})`);
  let select = `SELECT * FROM (${parsed.numbered}\n)`;
  const computed = unproven.length > 0 && hasComputedReals(db) ? unproven : [];
  if (computed.length > 0 || large !== null) {
    const names = columns.map((_, index) => `c${index}`);
    const values = names.map((name, index) => {
      const value = computed.includes(index)
        ? `CASE typeof(${name}) WHEN 'real' THEN CAST(${name} AS REAL) ELSE ${name} END`
        : name;
      return large === null
        ? value
        : `CASE WHEN ${large.condition(index, name)} THEN ${name} ELSE ${value} END`;
    });
    select = `SELECT ${values.join(', ')} FROM (WITH q(${names.join(', ')}) AS (${parsed.numbered}\n) SELECT * FROM q)`;
  }
  const limit = max_rows === null ? -1 : max_rows + 1;
  const { changes } = db
    .prepare(`INSERT INTO stage.rows ${select} LIMIT ${limit}`)
    .run(bindings(parsed, args));
  const rows = Number(changes);
  if (max_rows !== null && rows > max_rows) {
    throw new DatabaseError('limit_reached', `the result has more rows than max_rows (${max_rows})`);
  }
  const seen = typesSeen(db, 'stage.rows', unproven);
  db.exec('DETACH stage');
  return {
    columns: columns.map((column, index) => ({ ...column, type: seen.get(index) ?? column.type })),
    rows,
    bytes: statSync(file).size,
    has_large: large !== null,
  };
}
