/** Values that come in pieces, as the bytes of their fields in lines of copy-text, or put together after all. */
import type { LongValue, Value } from '../database.ts';
import { ESCAPES } from './copy-text-writer.ts';

const BACKSLASH = 0x5c;

export function isLong(value: Value): value is LongValue {
  return typeof value === 'object' && value !== null && 'long' in value;
}

export async function* encodeLong({ long, pieces }: LongValue): AsyncGenerator<Buffer, void, void> {
  if (long === 'bytes') yield Buffer.from('\\\\x');
  for await (const piece of pieces) {
    yield long === 'text' ? escaped(piece) : Buffer.from(Buffer.from(piece).toString('hex'), 'latin1');
  }
}

function escaped(bytes: Uint8Array): Buffer {
  const made = Buffer.allocUnsafe(bytes.length * 2);
  let length = 0;
  for (const byte of bytes) {
    const letter = ESCAPES[byte] as number;
    if (letter !== 0) made[length++] = BACKSLASH;
    made[length++] = letter === 0 ? byte : letter;
  }
  return made.subarray(0, length);
}

export async function wholeOf({ long, pieces }: LongValue): Promise<string | Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece);
  const bytes = Buffer.concat(parts);
  return long === 'text' ? bytes.toString() : bytes;
}
