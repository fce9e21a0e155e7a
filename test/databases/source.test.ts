import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import type { Accept, Argument, TransferProgress, Value } from '../../src/databases/database.ts';
import { DatabaseError } from '../../src/databases/errors.ts';
import { openSource } from '../../src/databases/open.ts';
import type { SqliteSource } from '../../src/databases/sqlite/source.ts';
import { tempFolder } from '../support/folder.ts';
import { until } from '../support/until.ts';
import {
  closing,
  ENDLESS,
  isRunning,
  NO_LIMITS,
  never,
  numbers,
  openBench,
  openTestSource,
  owner,
  queryOptions,
  stagingFiles,
} from './support.ts';

const ROWS: readonly Accept[] = [{ encoding: 'rows' }];

async function allRows(
  source: SqliteSource,
  sql: string,
  args: readonly Argument[] = [],
): Promise<Value[][]> {
  await using result = await source.query(sql, args, queryOptions(ROWS));
  assert.equal(result.body.encoding, 'rows');
  const rows: Value[][] = [];
  for await (const batch of result.body.batches) rows.push(...batch.map((row) => [...row]));
  return rows;
}

/** Both ways to run a query, with a function that consumes its result. */
function ways(folder: string): { readonly accept: readonly Accept[]; readonly name: string }[] {
  return [
    { name: 'sqlite-file', accept: [{ encoding: 'sqlite-file', directory: join(folder, 'staging') }] },
    { name: 'rows', accept: ROWS },
  ];
}

/** Runs a query to its end and gives its rows up. */
async function exhaust(
  source: SqliteSource,
  sql: string,
  options: ReturnType<typeof queryOptions>,
  args: Argument[] = [],
) {
  await using result = await source.query(sql, args, options);
  if (result.body.encoding === 'rows') for await (const _ of result.body.batches);
}

function rejection(code: string, transient: boolean, message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof DatabaseError, String(error));
    assert.deepEqual([error.code, error.transient], [code, transient], error.message);
    assert.match(error.message, message);
    return true;
  };
}

test('prepare tells parameters and columns without running', async (t) => {
  const { source } = await openBench(t, {
    schema: 'CREATE TABLE t(a INTEGER, b VARCHAR(20), c DECIMAL(10,2))',
  });
  assert.deepEqual(await source.prepare('SELECT a, b AS bee, c + ? FROM t WHERE a = ?;', never()), {
    parameters: 2,
    columns: [
      { name: 'a', type: 'BIGINT', source_type: 'INTEGER' },
      { name: 'bee', type: 'TEXT', source_type: 'VARCHAR(20)' },
      { name: 'c + ?', type: 'ANY', source_type: '' },
    ],
  });
  assert.equal((await source.prepare(ENDLESS, never())).columns.length, 1);
});

test('refuses everything but one statement that reads', async (t) => {
  const { source, folder, ledger } = await openBench(t, {
    schema: 'CREATE TABLE t(a); INSERT INTO t VALUES (1)',
  });
  const other = join(folder, 'other.db');
  for (const sql of [
    'INSERT INTO t VALUES (2)',
    'WITH x AS (SELECT 2) INSERT INTO t SELECT * FROM x',
    'WITH x AS (SELECT 1) DELETE FROM t RETURNING *',
    'WITH x AS (SELECT 1) UPDATE t SET a = 2 RETURNING *',
    'DROP TABLE t',
    `VACUUM INTO '${other}'`,
    `ATTACH '${other}' AS o`,
    'PRAGMA user_version = 5',
    'PRAGMA query_only = OFF',
    'SELECT 1; DROP TABLE t',
    'SELECT 1) ; DELETE FROM t; SELECT (1',
    'EXPLAIN SELECT 1',
    'BEGIN',
    'SELECT * FROM rows',
    'SELECT * FROM stage.rows',
    '',
    '-- nothing',
  ]) {
    await assert.rejects(source.prepare(sql, never()), rejection('invalid_statement', false, /./), sql);
    for (const { accept } of ways(folder)) {
      await assert.rejects(
        exhaust(source, sql, queryOptions(accept), []),
        rejection('invalid_statement', false, /./),
        sql,
      );
    }
  }
  await assert.rejects(source.prepare('SELECT x FROM t', never()), /db "ledger": no such column: x/);
  await assert.rejects(source.prepare('SELECT 1 FORM t', never()), /syntax error/);
  assert.equal(ledger.prepare('SELECT count(*) AS n FROM t').get()?.['n'], 1);
  assert.deepEqual(stagingFiles(folder), []);
  assert.throws(() => new DatabaseSync(other, { readOnly: true }), /unable to open/);
});

test('binds arguments as they are, and counts them first', async (t) => {
  const { source, folder } = await openBench(t);
  assert.deepEqual(await allRows(source, 'SELECT ?, ?, ?, ?, ?, ?', [null, 'a\0b', 5, 1.5, true, '007']), [
    [null, 'a\0b', 5n, 1.5, 1n, '007'],
  ]);
  assert.deepEqual(await allRows(source, 'SELECT ?, typeof(?1)', [-0]), [[-0, 'real']]);
  assert.deepEqual(await allRows(source, 'SELECT $2, $1 -- ?', ['one', 'two']), [['two', 'one']]);
  assert.deepEqual(await allRows(source, 'SELECT :a, @b, :a, ?', [1, 2, 3]), [[1n, 2n, 1n, 3n]]);
  assert.deepEqual(await allRows(source, 'SELECT ?2, ?', ['x', 2, 3]), [[2n, 3n]]);
  assert.deepEqual(await allRows(source, 'SELECT 1 LIMIT ?', [1]), [[1n]]);
  for (const { accept } of ways(folder)) {
    for (const args of [[], ['x'], ['x', 'y', 'z']]) {
      await assert.rejects(
        exhaust(
          source,
          'SELECT ?, ? FROM (SELECT abs(-9223372036854775807 - 1))',
          queryOptions(accept),
          args,
        ),
        rejection('invalid_arguments', false, new RegExp(`takes 2 arguments, ${args.length} were given`)),
      );
    }
  }
});

test('reads any statement that can stand alone, in its order', async (t) => {
  const { source, folder } = await openBench(t, {
    schema: 'CREATE TABLE t(a); INSERT INTO t VALUES (2), (3), (1)',
  });
  for (const [sql, expected] of [
    ['SELECT a FROM t ORDER BY a DESC -- comment', [3n, 2n, 1n]],
    ['SELECT a FROM t ORDER BY a LIMIT 2 OFFSET 1;', [2n, 3n]],
    ['VALUES (5), (4)', [5n, 4n]],
    ['WITH x(a) AS (VALUES (1), (2)) SELECT a FROM x UNION ALL SELECT 0 ORDER BY 1 DESC', [2n, 1n, 0n]],
    ['/* a */ SELECT a FROM t WHERE a > 1 /* ; */ ORDER BY 1 /* open', [2n, 3n]],
  ] as const) {
    assert.deepEqual((await allRows(source, sql)).flat(), expected, sql);
    await using result = await source.query(sql, [], queryOptions(ways(folder)[0]?.accept ?? []));
    assert.ok(result.body.encoding === 'sqlite-file');
    const staged = new DatabaseSync(result.body.path, { readOnly: true, readBigInts: true });
    assert.deepEqual(
      staged
        .prepare('SELECT rowid, c0 FROM rows ORDER BY rowid')
        .all()
        .map((row) => [row['rowid'], row['c0']]),
      expected.map((value, index) => [BigInt(index + 1), value]),
    );
    staged.close();
  }
  assert.deepEqual(stagingFiles(folder), [], 'disposing removes the file');
});

test('a LIMIT that is no whole number fails and says which argument it was', async (t) => {
  const { source } = await openBench(t, { schema: 'CREATE TABLE t (a)' });
  const limited = 'SELECT a FROM t WHERE a > ? LIMIT ?';
  for (const limit of ['2; DROP TABLE t', 'abc', 1.5]) {
    await assert.rejects(allRows(source, limited, [1, limit]), {
      code: 'invalid_arguments',
      message: 'db "ledger": argument 2 is a LIMIT or OFFSET, which takes a whole number (datatype mismatch)',
    });
  }
  await assert.rejects(allRows(source, limited, ['x', 'abc']), /which these arguments are not: 1, 2/);
  assert.deepEqual(await allRows(source, limited, [1, '5']), []);
});

test('errors carry the words of SQLite, and no argument', async (t) => {
  const { source, folder } = await openBench(t, {
    schema: 'CREATE VIRTUAL TABLE f USING fts5(a); CREATE TABLE t(a); INSERT INTO t VALUES (\'{"a":1}\')',
  });
  for (const { accept } of ways(folder)) {
    const run = (sql: string, ...args: Argument[]) => exhaust(source, sql, queryOptions(accept), args);
    await assert.rejects(
      run('SELECT abs(-9223372036854775807 - 1)'),
      rejection('query_failed', false, /db "ledger": integer overflow/),
    );
    await assert.rejects(
      run('SELECT json_extract(a, ?) FROM t', 'se'),
      rejection('query_failed', false, /bad JSON path: '…'/),
    );
    await assert.rejects(
      run('SELECT * FROM f WHERE f MATCH ?', 'secret " AND'),
      (error: Error) => error instanceof DatabaseError && !error.message.includes('secret'),
    );
  }
});

test('a database that is missing, is none, or cannot be read', async (t) => {
  const folder = tempFolder(t);
  writeFileSync(join(folder, 'junk.db'), 'this is no database'.repeat(100));
  mkdirSync(join(folder, 'folder.db'));
  for (const [name, code, transient, message] of [
    ['missing.db', 'unavailable', true, /^db "ledger": its file does not exist \(a relative path/],
    ['junk.db', 'query_failed', false, /^db "ledger": file is not a database$/],
    ['folder.db', 'unavailable', true, /^db "ledger": /],
  ] as const) {
    const source = await openTestSource(t, join(folder, name));
    const expected = rejection(code, transient, message);
    await assert.rejects(source.ping(never()), expected);
    await assert.rejects(source.prepare('SELECT 1 FROM t', never()), expected);
    for (const { accept } of ways(folder)) {
      await assert.rejects(exhaust(source, 'SELECT 1 FROM t', queryOptions(accept)), expected);
    }
    assert.deepEqual(stagingFiles(folder), []);
  }
  assert.throws(() => new DatabaseSync(join(folder, 'missing.db'), { readOnly: true }), 'it was not created');
});

test('a path with everything that means something in a URI', async (t) => {
  const path = join(tempFolder(t), 'a #1?mode=rwc%20&b=c;ü.db');
  const db = new DatabaseSync(path);
  db.exec('CREATE TABLE t(a); INSERT INTO t VALUES (7)');
  db.close();
  const source = await openTestSource(t, path);
  assert.deepEqual(await allRows(source, 'SELECT a FROM t'), [[7n]]);
});

test('a source that comes back is used again', async (t) => {
  const path = join(tempFolder(t), 'late.db');
  const source = await openTestSource(t, path);
  await assert.rejects(source.ping(never()), { code: 'unavailable' });
  for (const value of [1, 2]) {
    rmSync(path, { force: true });
    const db = new DatabaseSync(path);
    db.exec(`CREATE TABLE t(a); INSERT INTO t VALUES (${value})`);
    db.close();
    await source.ping(never());
    assert.deepEqual(await allRows(source, 'SELECT a FROM t'), [[BigInt(value)]]);
  }
});

test('max_rows and max_bytes end the query and say so', async (t) => {
  const { source, folder } = await openBench(t);
  for (const { accept } of ways(folder)) {
    const limited = (sql: string, max_rows: number | null, max_bytes: number | null) =>
      exhaust(source, sql, queryOptions(accept, { limits: { ...NO_LIMITS, max_rows, max_bytes } }));
    await limited(numbers(10), 10, null);
    await limited('SELECT 1 WHERE 0', 0, 8192);
    await assert.rejects(
      limited(numbers(11), 10, null),
      rejection('limit_reached', false, /more rows than max_rows \(10\)/),
    );
    const endless = 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c';
    await assert.rejects(limited(endless, 1_000, null), { code: 'limit_reached' });
    await assert.rejects(
      limited(endless, null, 1_000_000),
      rejection('limit_reached', false, /more bytes than max_bytes \(1000000\)/),
    );
    await assert.rejects(limited('SELECT zeroblob(100000)', null, 50_000), { code: 'limit_reached' });
    assert.deepEqual(stagingFiles(folder), []);
  }
  // It can be used as before.
  assert.deepEqual(await allRows(source, 'SELECT 1'), [[1n]]);
});

test('tells how far a query is', async (t) => {
  const { source, folder } = await openBench(t);
  for (const { accept } of ways(folder)) {
    const told: TransferProgress[] = [];
    await exhaust(
      source,
      numbers(300_000),
      queryOptions(accept, { onProgress: (progress) => told.push(progress) }),
    );
    assert.ok(told.every(({ phase }) => phase === 'query'));
    assert.equal(told.at(-1)?.rows, 300_000);
    const bytes = told.map((progress) => progress.bytes);
    assert.deepEqual(
      bytes,
      bytes.toSorted((a, b) => a - b),
    );
    assert.ok((bytes.at(-1) ?? 0) > 5_000_000);
  }
});

test('a cancel ends a query that never yields a row', async (t) => {
  const { source, folder } = await openBench(t);
  for (const { accept } of ways(folder)) {
    const controller = new AbortController();
    const reason = new Error('cancelled by a test');
    const before = new Set(source.pids);
    const running = exhaust(source, ENDLESS, queryOptions(accept, { signal: controller.signal }));
    running.catch(() => {});
    const pid = await until('the query burns CPU', () => [...before, ...source.pids].find(isBusy));
    const asked = performance.now();
    controller.abort(reason);
    await assert.rejects(running, (error) => error === reason);
    assert.ok(performance.now() - asked < 10_000);
    assert.equal(isRunning(pid), false);
    assert.deepEqual(stagingFiles(folder), []);
  }
  assert.deepEqual(await allRows(source, 'SELECT 1'), [[1n]]);
});

test('a cancel before, while waiting in line, and between batches', async (t) => {
  const { source, folder } = await openBench(t, {});
  const reason = new Error('cancelled by a test');
  for (const { accept } of ways(folder)) {
    await assert.rejects(
      exhaust(source, 'SELECT 1', queryOptions(accept, { signal: AbortSignal.abort(reason) })),
      (error) => error === reason,
    );
  }
  const controller = new AbortController();
  await using result = await source.query(
    numbers(1_000_000),
    [],
    queryOptions(ROWS, { signal: controller.signal }),
  );
  assert.ok(result.body.encoding === 'rows');
  const iterator = result.body.batches[Symbol.asyncIterator]();
  await iterator.next();
  controller.abort(reason);
  await assert.rejects(iterator.next(), (error) => error === reason);

  const stop = new AbortController();
  const busy = Array.from({ length: 4 }, () =>
    source.query(ENDLESS, [], queryOptions(ways(folder)[0]?.accept ?? [], { signal: stop.signal })),
  );
  for (const each of busy) each.catch(() => {});
  const waiting = new AbortController();
  const queued = source.query('SELECT 1', [], queryOptions(ROWS, { signal: waiting.signal }));
  waiting.abort(reason);
  await assert.rejects(queued, (error) => error === reason);
  // What is quick does not wait behind what is long.
  assert.equal((await source.prepare('SELECT 1', never())).columns.length, 1);
  await source.ping(never());
  const after = allRows(source, 'SELECT 2');
  stop.abort(reason);
  await Promise.allSettled(busy);
  assert.deepEqual(await after, [[2n]]);
});

test('rows are read no faster than they are taken', async (t) => {
  const { source } = await openBench(t);
  let told = 0;
  await using result = await source.query(
    numbers(200_000),
    [],
    queryOptions(ROWS, {
      onProgress: ({ rows }) => {
        told = rows;
      },
    }),
  );
  assert.ok(result.body.encoding === 'rows');
  const iterator = result.body.batches[Symbol.asyncIterator]();
  await iterator.next();
  // Other work of the same process, during which batches would come in if they were sent unasked.
  for (let i = 0; i < 20; i++) await source.ping(never());
  assert.ok(told <= 1_000, `${told} rows read`);
});

test('a killed process fails its query as transient, and is replaced', async (t) => {
  const { source, folder } = await openBench(t);
  for (const { accept } of ways(folder)) {
    const running = exhaust(source, ENDLESS, queryOptions(accept));
    running.catch(() => {});
    const pid = await until('the query burns CPU', () => source.pids.find(isBusy));
    process.kill(pid, 'SIGKILL');
    await assert.rejects(running, rejection('unavailable', true, /ended by SIGKILL/));
    assert.deepEqual(stagingFiles(folder), []);
    assert.deepEqual(await allRows(source, 'SELECT 1'), [[1n]]);
  }
});

test('there are never more processes than max_active and one, and close leaves none', async (t) => {
  const { source, folder } = await openBench(t, {});
  const many = Array.from({ length: 30 }, (_, index) =>
    exhaust(source, numbers(100 + index), queryOptions(ways(folder)[index % 2]?.accept ?? [])),
  );
  const seen = new Set<number>();
  let most = 0;
  await Promise.all(
    many.map((each) =>
      each.then(() => {
        most = Math.max(most, source.pids.length);
        for (const pid of source.pids) seen.add(pid);
      }),
    ),
  );
  assert.ok(most <= 5, `${most} processes`);
  const running = source.query(ENDLESS, [], queryOptions(ROWS));
  const { body } = await running;
  assert.ok(body.encoding === 'rows');
  const stuck = body.batches[Symbol.asyncIterator]().next();
  stuck.catch(() => {});
  for (const pid of source.pids) seen.add(pid);
  await source.close();
  await assert.rejects(stuck, { code: 'unavailable' });
  await assert.rejects(allRows(source, 'SELECT 1'), /is closed/);
  await assert.rejects(source.ping(never()), /is closed/);
  for (const pid of seen) assert.equal(isRunning(pid), false);
});

test('queries in the middle of SQLite die with a server that is killed', async (t) => {
  const folder = tempFolder(t);
  new DatabaseSync(join(folder, 'ledger.db')).close();
  const server = spawn(process.execPath, [new URL('./source-owner.ts', import.meta.url).pathname, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  closing(t, () => void server.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: server.stdout }), 'line')) as [string];
  const pids = JSON.parse(line) as number[];
  assert.ok(pids.length >= 2);
  await until('its queries burn CPU', () => pids.filter(isBusy).length >= 2);
  server.kill('SIGKILL');
  await until('its children are gone', () => pids.every((pid) => !isRunning(pid)), 10_000);
});

test('an engine is chosen by its type', async (t) => {
  const { folder } = await openBench(t);
  const source = await openSource({ type: 'sqlite', name: 'ledger', path: join(folder, 'ledger.db') });
  closing(t, () => source.close());
  assert.equal(source.engine, 'sqlite');
  await source.ping(never());
  await assert.rejects(
    source.query('SELECT 1', [], { ...queryOptions([]), owner: owner('none') }),
    /no encoding that is accepted/,
  );
});

/** Whether a process has used CPU time for a while: it is inside of its query. */
const ticks = new Map<number, number>();
function isBusy(pid: number): boolean {
  const used = cpuTicks(pid);
  const first = ticks.get(pid);
  if (first === undefined) ticks.set(pid, used);
  return first !== undefined && used - first >= 30;
}

/** User CPU time of a process in ticks of 10 ms; 0 when it is gone. */
function cpuTicks(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[11] ?? 0);
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))
      return 0;
    throw error;
  }
}
