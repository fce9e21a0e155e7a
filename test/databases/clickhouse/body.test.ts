/** How an answer is read, in whatever pieces it comes. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { readAnswer } from '../../../src/databases/clickhouse/body.ts';
import { CutShort, ServerFailure } from '../../../src/databases/clickhouse/failure.ts';
import { escapeText, LineDecoder } from '../../../src/databases/encodings/copy-text.ts';

const MARK = 'end0123456789abcdef';
const NEW = { mark: MARK, line: false, most_bytes: MARK.length };
const OLD = { mark: MARK, line: true, most_bytes: MARK.length + 128 };

/** As ClickHouse escapes: the vertical tab not, the apostrophe too. */
function escaped(text: string, apostrophe = "\\'"): string {
  return text.replace(/[\0\b\f\n\r\t\v\\']/g, (found) => {
    if (found === "'") return apostrophe;
    return found === '\v' ? found : escapeText(found);
  });
}

async function* inPieces(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0;
  for (let turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    // Copied, since the reader may write into what it is given; at any address, as those of a socket are.
    const copy = Buffer.alloc(size + 4);
    const piece = copy.subarray(turn % 4, (turn % 4) + bytes.copy(copy, turn % 4, at, at + size));
    yield piece;
    at += size;
  }
}

async function read(answer: string, ending: typeof NEW, sizes: readonly number[]) {
  const parts: Buffer[] = [];
  let rows = 0;
  for await (const chunk of readAnswer(inPieces(Buffer.from(answer), sizes), ending)) {
    parts.push(chunk.data);
    rows += chunk.rows;
  }
  return { data: Buffer.concat(parts), rows };
}

const value = fc.oneof(
  fc.string({
    unit: fc.constantFrom('\\', "'", 'n', 'N', '\t', '\n', '\r', '\0', '\b', '\f', '\v', 'é', '😀'),
  }),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('\\N', '', "'", "\\'", 'Code: 395, e.displayText() = DB::Exception: x', MARK.slice(1)),
);
const table = fc.array(fc.tuple(value, value), { maxLength: 40 });
const sizes = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 });

suite('an answer of ClickHouse', () => {
  test('reads as its values, however it is cut into pieces', async () => {
    await fc.assert(
      fc.asyncProperty(table, sizes, fc.boolean(), async (rows, pieces, old) => {
        const wellFormed = rows.map((row) => row.map((text) => text.toWellFormed()));
        const lines = wellFormed.map((row) => `${row.map((text) => escaped(text)).join('\t')}\n`).join('');
        const end = old ? `${MARK}\t0\n` : MARK;
        const answer = await read(lines + end, old ? OLD : NEW, pieces);
        assert.equal(answer.rows, rows.length);
        const plain = wellFormed.map((row) => `${row.map((text) => escaped(text, "'")).join('\t')}\n`);
        assert.equal(answer.data.toString(), plain.join(''), 'an apostrophe is not escaped');
        const columns = ['a', 'b'].map((name) => ({ name, type: 'TEXT' as const }));
        assert.deepEqual(new LineDecoder(columns).push(answer.data), wellFormed);
      }),
    );
  });

  test('is not whole without its mark at the end, at whatever byte it is cut', async () => {
    const lines = Array.from({ length: 30 }, (_, index) => `${index}\tvalue\n`).join('');
    for (const ending of [OLD, NEW]) {
      const whole = `${lines}${MARK}${ending.line ? '\t0\n' : ''}`;
      assert.equal((await read(whole, ending, [64])).rows, 30);
      for (let length = 0; length < whole.length; length += 1) {
        await assert.rejects(read(whole.slice(0, length), ending, [64]), CutShort, String(length));
      }
      await assert.rejects(read(`${whole}5\tmore\n`, ending, [64]), CutShort);
      await assert.rejects(read(`1\ta${MARK}\n`, ending, [64]), CutShort, 'not at the beginning of a line');
    }
  });

  test('that ends with an error is that error, also behind the mark', async () => {
    const old = 'Code: 394, e.displayText() = DB::Exception: Query was cancelled, e.what() = DB::Exception\n';
    const recent =
      'Code: 241. DB::Exception: (total) memory limit exceeded. (MEMORY_LIMIT_EXCEEDED) (version 24.8.1.1)\n';
    const tagged = `\r\n__exception__\r\nabcdefghijklmnop\r\n${recent}${recent.length} abcdefghijklmnop\r\n__exception__\r\n`;
    for (const [text, code] of [
      [old, 394],
      [recent, 241],
      [tagged, 241],
    ] as const) {
      for (const before of [
        '',
        '1\ta\n',
        `1\ta\n${MARK}\t0\n`,
        'Code: 395, e.displayText() = DB::Exception: x\tb\n',
      ]) {
        for (const ending of [OLD, NEW]) {
          await assert.rejects(read(before + text, ending, [50]), (error) => {
            assert.ok(error instanceof ServerFailure, String(error));
            assert.equal(error.code, code);
            return true;
          });
        }
      }
    }
  });

  test('gives nothing of an error away as rows', async () => {
    const parts: string[] = [];
    const text =
      'Code: 394, e.displayText() = DB::Exception: Query was cancelled, e.what() = DB::Exception\n';
    const lines = '1\tvalue\n'.repeat(50_000);
    await assert.rejects(async () => {
      for await (const { data } of readAnswer(inPieces(Buffer.from(lines + text), [7_000]), OLD)) {
        parts.push(data.toString());
      }
    }, ServerFailure);
    assert.ok(parts.length > 10, 'the rows before it flow');
    assert.ok(lines.startsWith(parts.join('')));
  });
});
