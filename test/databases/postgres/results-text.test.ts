/** Values that Postgres takes in no text are told by row and column, however the lines are cut into chunks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Chunk } from '../../../src/databases/database.ts';
import { escapeText } from '../../../src/databases/encodings/copy-text.ts';
import { watchText } from '../../../src/databases/postgres/results-text.ts';

const COLUMNS = [{ name: 'a' }, { name: 'b' }, { name: 'c' }];
const text = fc
  .oneof(
    fc.string({ unit: 'grapheme', maxLength: 6 }),
    fc.constantFrom('\\', '\\0', 'x\\', '\u{1F600}', '0', '\t', '\n'),
  )
  .filter((value) => !value.includes('\0') && value.isWellFormed())
  .map((value) => Buffer.from(escapeText(value)));
const bad = fc.constantFrom('\0', 'a\0b', '\\\0', '\xff', 'é\xc3', '\xf0\x9f\x98').map((value) => {
  const nul = value.includes('\0');
  return { nul, bytes: nul ? Buffer.from(escapeText(value)) : Buffer.from(value, 'latin1') };
});

async function* cut(lines: Buffer, sizes: readonly number[]): AsyncGenerator<Chunk> {
  let turn = 0;
  for (let at = 0; at < lines.length; turn += 1) {
    const data = lines.subarray(at, at + (sizes[turn % sizes.length] ?? 1));
    yield { data, rows: data.toString('latin1').split('\n').length - 1 };
    at += data.length;
  }
}

function lineOf(row: readonly Buffer[]): Buffer {
  return Buffer.concat(
    row.flatMap((field, index) => [Buffer.from(index === 0 ? '' : '\t'), field]).concat(Buffer.from('\n')),
  );
}

async function read(lines: Buffer, sizes: readonly number[]): Promise<Buffer> {
  const seen: Buffer[] = [];
  for await (const { data } of watchText(cut(lines, sizes), COLUMNS, 'results "r"')) seen.push(data);
  return Buffer.concat(seen);
}

const row = fc.tuple(text, text, text);
const sizes = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 5 });

test('what is text passes as it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(row, { maxLength: 5 }), sizes, async (rows, pieces) => {
      const lines = Buffer.concat(rows.map(lineOf));
      assert.deepEqual(await read(lines, pieces), lines);
    }),
  );
});

test('the first value that is none is told by its row and column', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(row, { maxLength: 4 }),
      fc.array(row, { maxLength: 2 }),
      bad,
      fc.integer({ min: 0, max: 2 }),
      sizes,
      async (before, after, { nul, bytes }, column, pieces) => {
        const fields = [Buffer.from('x'), Buffer.from('y'), Buffer.from('z')].with(column, bytes);
        const lines = Buffer.concat([...before, fields, ...after].map(lineOf));
        await assert.rejects(read(lines, pieces), {
          code: 'query_failed',
          message: `results "r": row ${before.length + 1}, column "${'abc'[column]}": the value ${nul ? 'is text with a NUL character' : 'is not UTF-8 text'}; cast or convert it in the query`,
        });
      },
    ),
  );
});
