/** The roles of docs/roles.md, made by the statements on that page and nothing else, on real servers. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, type TestContext, test } from 'node:test';
import { tempFolder } from '../../support/folder.ts';
import { afterOthers } from '../../support/scope.ts';
import {
  databaseOf,
  execute,
  freshDatabase,
  noPrivate,
  runningQueries,
  type Service,
  servers,
  startPrivate,
} from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { postgresStore, redisStore } from '../stores.ts';
import { at, DIALECTS, launch, resultsFile, type Settings, setup } from './support.ts';

const PAGE = readFileSync(new URL('../../../docs/roles.md', import.meta.url), 'utf8');
const PASSWORD = 'secret-of-the-role-4711';

/** The statements of a block of the page, with other names in place of its own. */
function block(title: string, names: Readonly<Record<string, string>>): string {
  const [, text] =
    new RegExp(`<!-- run: ${title}[^>]*-->\\n\`\`\`\\w*\\n([\\s\\S]*?)\`\`\``).exec(PAGE) ?? [];
  assert.ok(text !== undefined, `the page has a block "${title}"`);
  return Object.entries({ ...names, secret: PASSWORD }).reduce(
    (sql, [name, other]) => sql.replaceAll(new RegExp(`\\b${name}\\b`, 'g'), other),
    text,
  );
}

/** One after the other, as a client would run the block. */
async function runBlock(dsn: string, sql: string): Promise<void> {
  const plain = sql.replaceAll(/--[^\n]*/g, '');
  for (const statement of plain.split(';')) if (statement.trim() !== '') await execute(dsn, statement);
}

function as(dsn: string, user: string): string {
  const url = new URL(dsn);
  url.username = user;
  url.password = PASSWORD;
  return url.href;
}

const unique = () => randomBytes(4).toString('hex');

interface Parties {
  readonly db: Settings;
  readonly results: Settings;
  readonly store?: Settings;
  readonly hang: string;
  /** How many hanging queries the source runs now. */
  hanging(): Promise<number>;
}

/** Reports on an old and a new table, a rerun in place of a table, a cancel, a purge. Gives the name of a table. */
async function serve(t: TestContext, { db, results, store, hang, hanging }: Parties): Promise<string> {
  const place = setup(t, {
    tasks: `-- name: old\nSELECT id FROM old_entries\n-- name: new\nSELECT id FROM new_entries\n-- name: hang\n${hang}`,
    db: { ledger: db },
    results: { reports: results },
    ...(store === undefined ? {} : { store }),
  });
  const server = await launch(t, place).started();
  const ready = await server.request<Record<string, string>>('GET', '/health/ready');
  assert.deepEqual(ready.data, { store: 'ok', 'db.ledger': 'ok', 'results.reports': 'ok' });
  for (const [task, job_id] of [
    ['old', 'kept'],
    ['new', 'kept'],
    ['old', 'gone'],
  ] as const) {
    const job = await server.finished(await server.post(task, { job_id }));
    assert.deepEqual([job.state, job.count], ['SUCCESS', 2], job.error);
  }
  assert.equal((await server.request('DELETE', '/jobs/gone?purge=true')).http, 200);
  await server.post('hang', { job_id: 'stopped' });
  await until('it hangs', async () => (await hanging()) > 0);
  assert.equal((await server.request('DELETE', '/jobs/stopped')).http, 200);
  await until('the cancel has ended the query', async () => (await hanging()) === 0);
  assert.equal((await server.finished('stopped')).state, 'CANCELLED');
  const kept = await server.job('kept');
  assert.equal(await server.stop(), 0);
  assert.ok(kept.result !== null);
  return kept.result.table;
}

function hangingOn(dsn: string, word: string): () => Promise<number> {
  return async () => (await runningQueries(dsn)).filter(({ query }) => query.includes(word)).length;
}

/** The two tables that `serve` asks for; the second is made when the role has its grants. */
function table(name: string, type: string, rest = ''): readonly string[] {
  return [`CREATE TABLE ${name} (id ${type})${rest}`, `INSERT INTO ${name} VALUES (1), (2)`];
}

async function runAll(dsn: string, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await execute(dsn, statement);
}

function dropAfter(t: TestContext, server: Service, statements: readonly string[]): void {
  afterOthers(t, async () => {
    if (server.dsn !== null) await runAll(server.dsn, statements);
  });
}

suite('the roles of the page', { concurrency: 2 }, () => {
  for (const server of servers('postgres')) {
    test(server.name, { skip: server.skip }, async (t) => {
      const id = unique();
      const names = {
        ledger_reader: `test_source_${id}`,
        reports_writer: `test_writer_${id}`,
        reports_reader: `test_reader_${id}`,
        queue_keeper: `test_keeper_${id}`,
      };
      const [ledger, reports, queue] = [
        await freshDatabase(t, server),
        await freshDatabase(t, server),
        await freshDatabase(t, server),
      ];
      await runAll(ledger, table('old_entries', 'bigint'));
      await runBlock(ledger, block('postgres source', names));
      await runAll(ledger, table('new_entries', 'bigint'));
      await runBlock(reports, block('postgres results', names));
      await runBlock(queue, block('postgres store', names));
      dropAfter(t, server, [`DROP ROLE ${Object.values(names).join(', ')}`]);
      const kept = await serve(t, {
        db: at(as(ledger, names.ledger_reader)),
        results: at(as(reports, names.reports_writer)),
        store: postgresStore(as(queue, names.queue_keeper)),
        hang: DIALECTS.postgres.hang,
        hanging: hangingOn(ledger, 'pg_sleep'),
      });
      const reader = as(reports, names.reports_reader);
      assert.deepEqual(await execute(reader, `SELECT id FROM ${kept} ORDER BY id`), [['1'], ['2']]);
      await assert.rejects(execute(reader, `DELETE FROM ${kept}`), /denied/);
      await assert.rejects(execute(as(ledger, names.ledger_reader), 'DELETE FROM old_entries'), /denied/);
    });
  }

  for (const server of servers('mysql')) {
    test(server.name, { skip: server.skip }, async (t) => {
      const id = unique();
      const [ledger, reports] = [await freshDatabase(t, server), await freshDatabase(t, server)];
      const users = {
        ledger_reader: `test_source_${id}`,
        reports_writer: `test_writer_${id}`,
        reports_reader: `test_reader_${id}`,
      };
      const databases = {
        ledger: new URL(ledger).pathname.slice(1),
        reports: new URL(reports).pathname.slice(1),
      };
      dropAfter(
        t,
        server,
        Object.values(users).map((user) => `DROP USER IF EXISTS '${user}'@'%'`),
      );
      await runAll(ledger, table('old_entries', 'BIGINT'));
      for (const role of ['source', 'results']) {
        await runBlock(ledger, block(`mysql ${role}`, { ...users, ...databases }));
      }
      await runAll(ledger, table('new_entries', 'BIGINT'));
      const kept = await serve(t, {
        db: at(as(ledger, users.ledger_reader)),
        results: at(as(reports, users.reports_writer)),
        hang: DIALECTS.mysql.hang,
        hanging: hangingOn(ledger, 'SLEEP(600)'),
      });
      const reader = as(reports, users.reports_reader);
      assert.deepEqual(await execute(reader, `SELECT id FROM ${kept} ORDER BY id`), [['1'], ['2']]);
      await assert.rejects(execute(reader, `DELETE FROM ${kept}`), /denied/);
      await assert.rejects(execute(as(ledger, users.ledger_reader), 'DELETE FROM old_entries'), /denied/);
    });
  }

  test('clickhouse', { skip: noPrivate('clickhouse') }, async (t) => {
    const server = await startPrivate(t, 'clickhouse');
    await execute(server.dsn, 'CREATE DATABASE ledger');
    const ledger = databaseOf(server.dsn, 'ledger');
    await runAll(ledger, table('old_entries', 'Int64', ' ENGINE = Memory'));
    const folder = join(server.folder, 'users.d');
    mkdirSync(folder, { mode: 0o755 });
    writeFileSync(join(folder, 'ledger_reader.xml'), block('clickhouse source', {}), { mode: 0o644 });
    const reader = as(ledger, 'ledger_reader');
    await until('the server has read the file', () =>
      execute(reader, 'SELECT 1').then(
        () => true,
        () => false,
      ),
    );
    await runAll(ledger, table('new_entries', 'Int64', ' ENGINE = Memory'));
    await serve(t, {
      db: at(reader),
      results: resultsFile(join(tempFolder(t), 'results.db')).settings,
      hang: DIALECTS.clickhouse.hang,
      hanging: hangingOn(ledger, 'sleepEachRow'),
    });
    await assert.rejects(execute(reader, 'INSERT INTO old_entries VALUES (3)'), /readonly/i);
  });

  for (const server of servers('redis')) {
    test(server.name, { skip: server.skip }, async (t) => {
      const dsn = await freshDatabase(t, server);
      const id = unique();
      const [user, prefix] = [`test_keeper_${id}`, `test_roles_${id}`];
      const command = block('redis store', { queue_keeper: user, dungbeetle: prefix }).trim();
      await execute(dsn, command.split(' '));
      dropAfter(t, server, [`ACL DELUSER ${user}`]);
      const folder = tempFolder(t);
      const ledger = join(folder, 'ledger.db');
      const database = new DatabaseSync(ledger);
      for (const name of ['old_entries', 'new_entries']) {
        for (const sql of table(name, 'INTEGER')) database.exec(sql);
      }
      database.close();
      const place = setup(t, {
        tasks: '-- name: old\nSELECT id FROM old_entries',
        db: { ledger: { type: 'sqlite', dsn: ledger } },
        results: { reports: resultsFile(join(folder, 'results.db')).settings },
        store: { ...redisStore(as(dsn, user)), prefix },
      });
      const running = await launch(t, place).started();
      const job = await running.finished(await running.post('old'));
      assert.deepEqual([job.state, job.count], ['SUCCESS', 2], job.error);
      const warnings = running.log.filter(({ event }) => event === 'store').map(({ msg }) => String(msg));
      // As is so of the tests' server: the role may look for what could lose jobs.
      assert.match(warnings.join(), /^Redis keeps its data in memory only/);
      await assert.rejects(execute(as(dsn, user), 'GET something-else'), /NOPERM/);
    });
  }
});
