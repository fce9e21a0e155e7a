/** Rows as lines of text and back: nothing lost, wherever the lines are cut. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Chunk, Column, ColumnType, Value } from '../../../src/databases/database.ts';
import {
  decodeRows,
  encodeField,
  encodeRows,
  LineDecoder,
} from '../../../src/databases/encodings/copy-text.ts';
import { CopyTextWriter } from '../../../src/databases/encodings/copy-text-writer.ts';
import { cutAt, momentOf, timestamps } from './values.ts';

const text = fc.oneof(
  fc.string({ unit: 'binary' }).map((each) => each.toWellFormed()),
  fc.constantFrom(
    '',
    '\\N',
    '\\\\N',
    '\\',
    '\t',
    '\n',
    '\0',
    '\r\n',
    'NULL',
    '\ufffd',
    '\\x00',
    '\\.',
    '😀\t',
  ),
);

const VALUES: Readonly<Record<ColumnType, fc.Arbitrary<Value>>> = {
  BIGINT: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  DECIMAL: fc.oneof(
    fc.tuple(fc.bigInt(), fc.stringMatching(/^\d{1,40}$/)).map(([whole, digits]) => `${whole}.${digits}`),
    fc.constantFrom('NaN', 'Infinity', '-Infinity', '0', '-0.00'),
  ),
  DOUBLE: fc.double(),
  TIMESTAMP: timestamps,
  TIMESTAMPTZ: timestamps.map((each) => `${each}+00`),
  DATE: timestamps.map((each) => each.slice(0, 10)),
  BOOLEAN: fc.boolean(),
  TEXT: text,
  JSON: fc.json(),
  BYTES: fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
  ANY: text,
};

const TYPES = Object.keys(VALUES) as ColumnType[];

interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Value[])[];
}

const tables: fc.Arbitrary<Table> = fc
  .array(fc.constantFrom(...TYPES), { minLength: 1, maxLength: 6 })
  .chain((types) => {
    const row = fc.tuple(...types.map((type) => fc.option(VALUES[type], { freq: 5 })));
    return fc.record({
      columns: fc.constant(types.map((type, index) => ({ name: `c${index}`, type, source_type: '' }))),
      rows: fc.array(row, { maxLength: 30 }),
    });
  });

async function collect<T>(pieces: AsyncIterable<readonly T[]>): Promise<T[]> {
  const all: T[] = [];
  for await (const piece of pieces) all.push(...piece);
  return all;
}

async function bytesOf(rows: Table['rows']): Promise<{ data: Buffer; rows: number }> {
  const chunks: Chunk[] = [];
  const batches = [rows.slice(0, 2), [], rows.slice(2)];
  for await (const chunk of encodeRows(toAsync(batches))) chunks.push(chunk);
  return {
    data: Buffer.concat(chunks.map(({ data }) => data)),
    rows: chunks.reduce((sum, chunk) => sum + chunk.rows, 0),
  };
}

async function* toAsync<T>(items: Iterable<T>): AsyncGenerator<T, void, void> {
  yield* items;
}

test('what is encoded is decoded to the same, whatever the boundaries of chunks', async () => {
  await fc.assert(
    fc.asyncProperty(tables, fc.array(fc.nat(), { maxLength: 20 }), async ({ columns, rows }, cuts) => {
      const encoded = await bytesOf(rows);
      assert.equal(encoded.rows, rows.length);
      const chunks = cutAt(encoded.data, cuts).map((data) => ({ data, rows: 0 }));
      assert.deepEqual(await collect(decodeRows(toAsync(chunks), columns)), rows);
    }),
    { numRuns: 300 },
  );
});

test('byte by byte too', async () => {
  await fc.assert(
    fc.asyncProperty(tables, async ({ columns, rows }) => {
      const { data } = await bytesOf(rows.slice(0, 5));
      const decoder = new LineDecoder(columns);
      const decoded = [...data].flatMap((byte) => decoder.push(Uint8Array.of(byte)));
      decoder.end();
      assert.deepEqual(decoded, rows.slice(0, 5));
    }),
    { numRuns: 50 },
  );
});

test('a result of many chunks keeps its rows whole and counts them', async () => {
  const rows = Array.from({ length: 20_000 }, (_, index) => [BigInt(index), `line\n${index}`]);
  const columns: readonly Column[] = [
    { name: 'n', type: 'BIGINT', source_type: '' },
    { name: 's', type: 'TEXT', source_type: '' },
  ];
  let chunks = 0;
  let counted = 0;
  const counting = async function* () {
    for await (const chunk of encodeRows(toAsync([rows]))) {
      chunks += 1;
      counted += chunk.rows;
      yield chunk;
    }
  };
  assert.deepEqual(await collect(decodeRows(counting(), columns)), rows);
  assert.equal(counted, rows.length);
  assert.ok(chunks > 3);
});

test('lines that are none are errors', async () => {
  const columns: readonly Column[] = [
    { name: 'a', type: 'TEXT', source_type: '' },
    { name: 'b', type: 'TEXT', source_type: '' },
  ];
  const decode = (data: Buffer) => collect(decodeRows(toAsync([{ data, rows: 1 }]), columns));
  await assert.rejects(decode(Buffer.from('x\ty')), /the last line of a result has no end/);
  await assert.rejects(decode(Buffer.from('x\n')), /too few fields/);
  await assert.rejects(decode(Buffer.from('x\ty\tz\n')), /too many fields/);
  await assert.rejects(decode(Buffer.from('x\t\xff\n', 'latin1')), /column "b": a value is not UTF-8/);
  await assert.rejects(decode(Buffer.from('\xe2\x82\\t\ty\n', 'latin1')), /column "a": a value is not UTF-8/);
  assert.deepEqual(await decode(Buffer.from('\ufffd\t\\N\n')), [['\ufffd', null]]);
});

test('fields written as bytes are those written as values', () => {
  const write = (field: (writer: CopyTextWriter) => void) => {
    const writer = new CopyTextWriter();
    writer.beginRow();
    writer.null();
    field(writer);
    writer.endRow();
    const chunks = writer.take();
    assert.equal(
      chunks.reduce((sum, { rows }) => sum + rows, 0),
      1,
    );
    const line = Buffer.concat(chunks.map(({ data }) => data)).toString('latin1');
    assert.equal(line.slice(0, 3), '\\N\t');
    assert.equal(line.at(-1), '\n');
    return Buffer.from(line.slice(3, -1), 'latin1').toString();
  };
  const within = (bytes: Buffer) => Buffer.concat([Buffer.from('<'), bytes, Buffer.from('>')]);
  fc.assert(
    fc.property(text, (value) => {
      const bytes = within(Buffer.from(value));
      assert.equal(
        write((writer) => writer.text(bytes, 1, bytes.length - 1)),
        encodeField(value),
      );
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (value) => {
      const bytes = within(Buffer.from(value));
      assert.equal(
        write((writer) => writer.bytes(bytes, 1, bytes.length - 1)),
        encodeField(value),
      );
    }),
  );
  fc.assert(
    fc.property(VALUES.BIGINT, (value) => {
      const bytes = Buffer.alloc(10);
      bytes.writeBigInt64LE(value as bigint, 1);
      assert.equal(
        write((writer) => writer.int64(bytes, 1)),
        encodeField(value as bigint),
      );
    }),
  );
  for (const value of [0, 9, 10, -1, 2 ** 53 - 1, -(2 ** 53) + 1]) {
    assert.equal(
      write((writer) => writer.integer(value)),
      String(value),
    );
  }
  fc.assert(
    fc.property(fc.double(), (value) => {
      assert.equal(
        write((writer) => writer.double(value)),
        encodeField(value),
      );
    }),
  );
  fc.assert(
    fc.property(timestamps, (value) => {
      const moment = momentOf(value);
      assert.equal(
        write((writer) => writer.timestamp(moment, 6)),
        value,
      );
      assert.equal(
        write((writer) => writer.timestamptz(moment, 2)),
        `${value.slice(0, 22)}+00`,
      );
      assert.equal(
        write((writer) => writer.timestamp(moment, 0)),
        value.slice(0, 19),
      );
      assert.equal(
        write((writer) => writer.date(moment)),
        value.slice(0, 10),
      );
    }),
  );
});

test('long fields are written whole, in chunks that stay as they are', () => {
  const writer = new CopyTextWriter();
  const long = Buffer.alloc(3_000_000, 'ab\t\\');
  const taken: Chunk[] = [];
  for (let row = 0; row < 3; row += 1) {
    writer.beginRow();
    writer.text(long, 0, long.length);
    writer.bytes(long, 0, 1_000_000);
    writer.endRow();
    taken.push(...writer.take());
  }
  const line = `${encodeField(long.toString())}\t${encodeField(long.subarray(0, 1_000_000))}\n`;
  assert.ok(Buffer.concat(taken.map(({ data }) => data)).equals(Buffer.from(line.repeat(3))));
  assert.deepEqual(writer.take(), []);
});
