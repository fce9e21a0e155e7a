/** Tuples of COPY BINARY: what a Postgres reads from them is what was written. */
import assert from 'node:assert/strict';
import { finished } from 'node:stream/promises';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import pg from 'pg';
import { from } from 'pg-copy-streams';
import { daysOf, isDay, shift } from '../../../src/databases/encodings/field-writer.ts';
import { PgBinaryWriter } from '../../../src/databases/encodings/pg-binary.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { momentOf, timestamps } from './values.ts';

const decimals = fc.oneof(
  fc
    .tuple(
      fc.constantFrom('', '-'),
      fc.oneof(
        fc.stringMatching(/^\d{1,70}$/),
        fc.constantFrom('0', '10000', '99999999', '0000', '000010000'),
      ),
      fc.option(
        fc.oneof(fc.stringMatching(/^\d{1,50}$/), fc.constantFrom('0', '0000', '00001', '10000', '00010000')),
        {
          nil: '',
        },
      ),
    )
    .map(([sign, whole, fraction]) => `${sign}${whole}${fraction === '' ? '' : `.${fraction}`}`),
  fc.constantFrom(
    '0',
    '-0',
    '0.00',
    '.5',
    '-.00000000000000000001',
    `${'9'.repeat(1000)}.${'1'.repeat(1000)}`,
  ),
);

const rows = fc.array(
  fc.record({
    integer: fc.maxSafeInteger(),
    bigint: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    decimal: decimals,
    double: fc.double(),
    timestamp: timestamps,
    text: fc
      .string({ unit: 'binary', maxLength: 200 })
      .map((text) => text.toWellFormed().replaceAll('\0', '')),
    bytes: fc.uint8Array({ maxLength: 200 }),
    nulls: fc.array(fc.boolean(), { minLength: 9, maxLength: 9 }),
  }),
  { minLength: 1, maxLength: 40 },
);

const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const TRAILER = Buffer.from([0xff, 0xff]);

for (const server of servers('postgres')) {
  suite(server.name, { skip: server.skip }, () => {
    test('values of every type', async (t) => {
      const dsn = await freshDatabase(t, server);
      const client = new pg.Client({ connectionString: dsn });
      await client.connect();
      t.after(() => client.end());
      await client.query(`CREATE TABLE t (i int8, b int8, n numeric, d float8, da date, ts timestamp, tz timestamptz,
        s text, by bytea)`);
      await client.query("SET TimeZone = 'UTC'");
      await fc.assert(
        fc.asyncProperty(rows, async (values) => {
          const writer = new PgBinaryWriter(9);
          for (const value of values) {
            writer.beginRow();
            const int64 = Buffer.alloc(9);
            int64.writeBigInt64LE(value.bigint, 1);
            const decimal = Buffer.from(`x${value.decimal}x`);
            const text = Buffer.from(`x${value.text}x`);
            const fields = [
              () => writer.integer(value.integer),
              () => writer.int64(int64, 1),
              () => writer.decimal(decimal, 1, decimal.length - 1),
              () => writer.double(value.double),
              () => writer.date(momentOf(value.timestamp)),
              () => writer.timestamp(momentOf(value.timestamp)),
              () => writer.timestamptz(momentOf(value.timestamp)),
              () => writer.text(text, 1, text.length - 1),
              () => writer.bytes(value.bytes, 0, value.bytes.length),
            ];
            for (const [index, field] of fields.entries()) {
              if (value.nulls[index] === true) writer.null();
              else field();
            }
            writer.endRow();
          }
          const chunks = writer.take();
          assert.equal(
            chunks.reduce((sum, chunk) => sum + chunk.rows, 0),
            values.length,
          );
          await client.query('TRUNCATE t');
          const stream = client.query(from('COPY t FROM STDIN (FORMAT binary)'));
          stream.end(Buffer.concat([HEADER, ...chunks.map(({ data }) => data), TRAILER]));
          await finished(stream);
          // What Postgres makes of the same values as text.
          const expected = values.map(({ integer, bigint, decimal, double, timestamp, text, bytes, nulls }) =>
            [
              String(integer),
              String(bigint),
              decimal,
              Object.is(double, -0) ? '-0' : String(double),
              timestamp.slice(0, 10),
              timestamp,
              `${timestamp}+00`,
              text,
              `\\x${Buffer.from(bytes).toString('hex')}`,
            ].map((value, index) => (nulls[index] === true ? null : value)),
          );
          const parameters = Array.from({ length: 9 }, (_, index) => `$${index + 1}::text[]`);
          const same = await client.query<{ bad: string }>(
            `SELECT count(*)::text AS bad FROM (
              SELECT i, b, n::text, d::text, da, ts, tz, s, by, row_number() OVER () FROM t
              EXCEPT
              SELECT i::int8, b::int8, n::numeric::text, d::float8::text, da::date, ts::timestamp, tz::timestamptz, s, by::bytea, o
              FROM unnest(${parameters.join(', ')}) WITH ORDINALITY AS x (i, b, n, d, da, ts, tz, s, by, o)
            ) AS different`,
            Array.from({ length: 9 }, (_, index) => expected.map((row) => row[index])),
          );
          assert.equal(same.rows[0]?.bad, '0');
          assert.equal((await execute(dsn, 'SELECT count(*) FROM t'))[0]?.[0], String(values.length));
        }),
        { numRuns: 30 },
      );
    });
  });
}

test('numbers are written as Postgres writes them: no zeros that say nothing', () => {
  const written = (text: string) => {
    const writer = new PgBinaryWriter(1);
    writer.beginRow();
    const bytes = Buffer.from(text);
    writer.decimal(bytes, 0, bytes.length);
    writer.endRow();
    return Buffer.concat(writer.take().map(({ data }) => data)).subarray(6);
  };
  const digits = (...words: readonly number[]) =>
    Buffer.from(words.flatMap((word) => [word >> 8, word & 0xff]));
  // Count of groups, weight of the first, sign, digits after the point, groups.
  assert.deepEqual(written('12345.678'), digits(3, 1, 0, 3, 1, 2345, 6780));
  assert.deepEqual(written('-10000'), digits(1, 1, 0x4000, 0, 1));
  assert.deepEqual(written('0.00001'), digits(1, 0xfffe, 0, 5, 1000));
  assert.deepEqual(written('-0.00'), digits(0, 0, 0, 2));
  assert.deepEqual(written('100000000.0'), digits(1, 2, 0, 1, 1));
});

test('a result of more columns than COPY has is refused', () => {
  assert.throws(() => new PgBinaryWriter(32_768), /at most 32,767 columns/);
});

test('days are those of the calendar', () => {
  fc.assert(
    fc.property(timestamps, fc.integer({ min: -900, max: 900 }), (timestamp, minutes) => {
      const moment = momentOf(timestamp);
      const date = new Date(`${timestamp.slice(0, 10)}T00:00:00Z`);
      assert.equal(daysOf(moment.year, moment.month, moment.day), date.getTime() / 86_400_000);
      assert.ok(isDay(moment.year, moment.month, moment.day));
      const moved = new Date(`${timestamp.slice(0, 16).replace(' ', 'T')}Z`);
      moved.setUTCMinutes(moved.getUTCMinutes() + minutes);
      shift(moment, minutes);
      const { year, month, day, hour, minute } = moment;
      assert.deepEqual(
        [year, month, day, hour, minute],
        [
          moved.getUTCFullYear(),
          moved.getUTCMonth() + 1,
          moved.getUTCDate(),
          moved.getUTCHours(),
          moved.getUTCMinutes(),
        ],
      );
    }),
  );
  for (const [year, month, day] of [
    [2023, 2, 29],
    [1900, 2, 29],
    [2024, 4, 31],
    [2024, 13, 1],
    [2024, 1, 32],
    [2024, 1, 0],
    [2024, 0, 1],
  ] as const) {
    assert.equal(isDay(year, month, day), false);
  }
  assert.ok(isDay(2000, 2, 29));
});
