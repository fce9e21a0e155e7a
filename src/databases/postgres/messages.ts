/** Messages as they go over the wire, as far as `pg-protocol` does not have them. */
import { DatabaseError as ServerError } from 'pg-protocol';
import type { Argument } from '../database.ts';
import { type Described, OID } from './columns.ts';

/** Binds arguments in their text form to the unnamed statement, and asks for results in the given formats. */
export function bindMessage(
  args: readonly Argument[],
  parameters: readonly number[],
  formats: readonly number[],
): Buffer {
  const values = args.map((arg, index) => {
    const text = argumentText(arg, parameters[index]);
    return text === null ? null : Buffer.from(text);
  });
  const length =
    4 + 2 + 2 + 2 + values.reduce((sum, value) => sum + 4 + (value?.length ?? 0), 0) + 2 + 2 * formats.length;
  const message = Buffer.allocUnsafe(1 + length);
  let at = message.writeUInt8(0x42, 0);
  at = message.writeInt32BE(length, at);
  at = message.writeUInt16BE(0, at); // the portal's and the statement's name: none
  at = message.writeUInt16BE(0, at); // all arguments are text
  at = message.writeUInt16BE(values.length, at);
  for (const value of values) {
    at = message.writeInt32BE(value === null ? -1 : value.length, at);
    if (value !== null) at += value.copy(message, at);
  }
  at = message.writeUInt16BE(formats.length, at);
  for (const format of formats) at = message.writeUInt16BE(format, at);
  return message;
}

const NUMBERS: ReadonlySet<number | undefined> = new Set([
  OID.int2,
  OID.int4,
  OID.int8,
  OID.oid,
  OID.numeric,
  OID.float4,
  OID.float8,
]);

/** An argument as the server reads it: text of the type that the statement has at its place. */
function argumentText(arg: Argument, oid: number | undefined): string | null {
  if (arg === null || typeof arg === 'string') return arg;
  if (typeof arg === 'boolean' && NUMBERS.has(oid)) return arg ? '1' : '0';
  return Object.is(arg, -0) ? '-0' : String(arg);
}

/** Of ParameterDescription: the types of the parameters. */
export function readParameters(body: Buffer): readonly number[] {
  return Array.from({ length: body.readUInt16BE(0) }, (_, index) => body.readUInt32BE(2 + 4 * index));
}

/** Of RowDescription. */
export function readDescription(body: Buffer): readonly Described[] {
  let at = 2;
  return Array.from({ length: body.readUInt16BE(0) }, () => {
    const end = body.indexOf(0, at);
    const name = body.toString('utf8', at, end);
    // Behind the name: table oid, attribute number, type oid, type length, modifier, format.
    const column = { name, oid: body.readUInt32BE(end + 7), modifier: body.readInt32BE(end + 13) };
    at = end + 19;
    return column;
  });
}

/** Of DataRow bodies, one behind the other, whose fields are text: "" for NULL. */
export function readTuples(bodies: Buffer): readonly (readonly string[])[] {
  const rows: string[][] = [];
  let at = 0;
  while (at < bodies.length) {
    const fields = bodies.readUInt16BE(at);
    at += 2;
    rows.push(
      Array.from({ length: fields }, () => {
        const size = Math.max(0, bodies.readInt32BE(at));
        const text = bodies.toString('utf8', at + 4, at + 4 + size);
        at += 4 + size;
        return text;
      }),
    );
  }
  return rows;
}

/** https://www.postgresql.org/docs/current/protocol-error-fields.html */
const FIELDS: Readonly<
  Record<string, 'severity' | 'code' | 'detail' | 'hint' | 'position' | 'where' | 'routine'>
> = {
  S: 'severity',
  C: 'code',
  D: 'detail',
  H: 'hint',
  P: 'position',
  W: 'where',
  R: 'routine',
};

/** Of ErrorResponse: the error as `pg` would have made it. */
export function readError(body: Buffer): ServerError {
  const fields = new Map(
    body
      .toString('utf8')
      .split('\0')
      .filter((field) => field !== '')
      .map((field) => [field.slice(0, 1), field.slice(1)]),
  );
  const error = new ServerError(fields.get('M') ?? 'an error without a message', body.length, 'error');
  for (const [letter, name] of Object.entries(FIELDS)) error[name] = fields.get(letter);
  return error;
}
