/** What is done with values and with messages that quote them takes a time that is linear in their length. */
import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { failureOf as clickhouseFailure, ServerFailure } from '../../src/databases/clickhouse/failure.ts';
import { failureOf as postgresFailure } from '../../src/databases/postgres/failure.ts';
import { redact } from '../../src/databases/sqlite/failure.ts';
import { AffinityProbe } from '../../src/databases/sqlite/types.ts';

/** Characters. */
const LENGTH = 300_000;

/** Some ten ms are usual; what is quadratic takes a minute for so many characters. */
function takesLittle(what: string, work: () => void): void {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 5_000_000, `${what} took ${(user + system) / 1_000} ms`);
}

test('a text that is nearly a number', () => {
  const db = new DatabaseSync(':memory:');
  const probe = new AffinityProbe(db);
  for (const text of ['0', '1.', ' ', '1e', '-.5']) {
    takesLittle(`many of ${JSON.stringify(text)}`, () =>
      assert.equal(probe.changes('NUMERIC', `${text.repeat(LENGTH / text.length)}x`), false),
    );
  }
  db.close();
});

test('a message that quotes a long argument', () => {
  for (const text of [
    ': "',
    '"',
    "'",
    '[',
    "'[x",
    ' ',
    ' uuid ',
    'in query ',
    '(version ',
    ', Stack trace',
    'a: ',
  ]) {
    const quoted = text.repeat(LENGTH / text.length);
    const args = [quoted, 'another argument'];
    takesLittle(`SQLite, ${text}`, () => {
      const safe = redact(`bad JSON path: '${quoted}'`, args);
      assert.ok(!safe.includes(quoted.slice(0, 100)), safe.slice(0, 200));
    });
    for (const code of [6, 43, 62, 395]) {
      takesLittle(`ClickHouse, ${text}`, () => {
        const failure = new ServerFailure(code, `Cannot parse '${quoted}' as it is: while processing x`, 400);
        clickhouseFailure(failure, { database: 'db "x"', doing: 'query_failed', args });
      });
    }
    const error = Object.assign(new Error(`invalid input syntax for type integer: "${quoted}"`), {
      code: '22P02',
      severity: 'ERROR',
    });
    takesLittle(`Postgres, ${text}`, () => {
      postgresFailure(error, 'db "x"', 'query_failed', { args });
    });
  }
});
