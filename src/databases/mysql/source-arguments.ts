/** The command that runs a prepared statement with its arguments. */
import type { Argument } from '../database.ts';
import { TYPE } from './source-columns.ts';
import { COMMAND } from './source-wire.ts';

/** Command, statement, no cursor, one iteration. */
const HEAD_BYTES = 10;
/** Of a DECIMAL: digits, and those behind the point. */
const MOST_DIGITS = 65;
const MOST_SCALE = 30;

/**
 * A string is bound as text, which the server converts to what it is compared with; a whole number as BIGINT, another
 * as DECIMAL, which is exactly what was written, or as DOUBLE if no DECIMAL has room for it; a boolean as 1 or 0.
 */
export function executeCommand(statement: number, args: readonly Argument[]): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head[0] = COMMAND.execute;
  head.writeUInt32LE(statement, 1);
  head[5] = 0;
  head.writeUInt32LE(1, 6);
  if (args.length === 0) return head;
  const nulls = Buffer.alloc(Math.ceil(args.length / 8));
  const types: number[] = [];
  const values: Buffer[] = [];
  for (const [index, arg] of args.entries()) {
    const [type, value] = bound(arg);
    types.push(type, 0);
    if (value === null) nulls[index >> 3] = (nulls[index >> 3] ?? 0) | (1 << (index & 7));
    else values.push(value);
  }
  // 1: types follow.
  return Buffer.concat([head, nulls, Buffer.from([1, ...types]), ...values]);
}

function bound(arg: Argument): readonly [type: number, value: Buffer | null] {
  switch (typeof arg) {
    case 'string':
      return [TYPE.var_string, textOf(arg)];
    case 'boolean':
      return [TYPE.tiny, Buffer.from([arg ? 1 : 0])];
    case 'number': {
      const digits = Number.isSafeInteger(arg) ? null : decimalOf(arg);
      if (digits !== null) return [TYPE.newdecimal, textOf(digits)];
      const value = Buffer.alloc(8);
      if (!Number.isSafeInteger(arg) || Object.is(arg, -0)) {
        value.writeDoubleLE(arg);
        return [TYPE.double, value];
      }
      value.writeBigInt64LE(BigInt(arg));
      return [TYPE.longlong, value];
    }
    case 'object':
      return [TYPE.null, null];
  }
}

/** A number in digits, as it was written; null if no DECIMAL has room for it. */
function decimalOf(number: number): string | null {
  if (Number.isInteger(number)) return Math.abs(number) < 10 ** MOST_DIGITS ? String(BigInt(number)) : null;
  const [, after = '', exponent = '0'] = /^-?\d+(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(number)) ?? [];
  const scale = after.length - Number(exponent);
  return scale > MOST_SCALE ? null : number.toFixed(scale);
}

function textOf(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([lengthOf(bytes.length), bytes]);
}

function lengthOf(bytes: number): Buffer {
  if (bytes < 0xfb) return Buffer.from([bytes]);
  const length = Buffer.alloc(9);
  length.writeBigUInt64LE(BigInt(bytes), 1);
  length[0] = 0xfe;
  return length;
}
