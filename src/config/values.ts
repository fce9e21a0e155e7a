/**
 * The kinds of value that a key can have, as TypeBox schemas: what is written (in TOML, or as text in the
 * environment and the flags) is checked by the schema and decoded to what the program uses.
 */
import Type, { type StaticDecode, type TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { formatDuration, parseDuration } from '../util/duration.ts';

/** What a key's schema says beside its type; kept as annotations of the schema. */
export interface Annotations {
  /** One sentence for --help and the reader. */
  readonly about: string;
  /** Completes "must be …" when a value does not fit. Names no value. */
  readonly must: string;
  /** As it would be written in the file; absent: the key is required, or `fallback` says what happens. */
  readonly default?: unknown;
  /** Without a default: what an absent key means, in words. */
  readonly fallback?: string;
}

type Default = Pick<Annotations, 'default' | 'fallback'>;

export function annotations(schema: TSchema): Annotations {
  const { about, must, default: value, fallback } = schema as TSchema & Partial<Annotations>;
  if (about === undefined || must === undefined)
    throw new Error('a key of the configuration is not described');
  return {
    about,
    must,
    ...(value === undefined ? {} : { default: value }),
    ...(fallback ? { fallback } : {}),
  };
}

/** The longest that Node's timers can wait is 2^31 - 1 ms, some 24.8 days. */
export const LONGEST_TIMER_MS = 24 * 24 * 3_600_000;
/** For durations that are only added to dates: a hundred years. */
export const LONGEST_MS = 876_000 * 3_600_000;

interface Range {
  readonly min_ms: number;
  readonly max_ms: number;
}

/** A duration, decoded to milliseconds. */
export function duration(about: string, range: Range, options: Default) {
  const fits = (value: string | number) => {
    const ms = parseDuration(value);
    return ms !== null && ms >= range.min_ms && ms <= range.max_ms;
  };
  const must = `a duration like "60s" or "1m30s", or a whole number of seconds, from ${formatDuration(range.min_ms)} to ${formatDuration(range.max_ms)}`;
  const written = Type.Union([Type.String(), Type.Number()], { about, must, ...options });
  return Type.Decode(Type.Refine(written, fits), (value) => Math.round(parseDuration(value) ?? Number.NaN));
}

/** A duration, or 0 for "no limit", which is decoded to null. */
export function durationOrNone(about: string, range: Range, options: Default) {
  const fits = (value: string | number) => {
    const ms = parseDuration(value);
    return ms !== null && (ms === 0 || (ms >= range.min_ms && ms <= range.max_ms));
  };
  const must = `a duration like "60s" or "1m30s", or a whole number of seconds, from ${formatDuration(range.min_ms)} to ${formatDuration(range.max_ms)}, or 0 for none`;
  const written = Type.Union([Type.String(), Type.Number()], { about, must, ...options });
  return Type.Decode(
    Type.Refine(written, fits),
    (value) => Math.round(parseDuration(value) ?? Number.NaN) || null,
  );
}

export function integer(about: string, minimum: number, maximum: number, options: Default) {
  const must = `a whole number from ${minimum} to ${maximum}`;
  return Type.Integer({ minimum, maximum, about, must, ...options });
}

/** A number, or 0 for "no limit", which is decoded to null. */
export function integerOrNone(about: string, options: Default) {
  const must = 'a whole number, or 0 for no limit';
  const written = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, about, must, ...options });
  return Type.Decode(written, (value) => (value === 0 ? null : value));
}

export function boolean(about: string, options: Default) {
  return Type.Boolean({ about, must: 'true or false', ...options });
}

/** A string that is not empty and, if asked, of a certain form. */
export function text(about: string, options: Default & { must?: string; form?: (value: string) => boolean }) {
  const { must = 'a string that is not empty', form = () => true, ...rest } = options;
  return Type.Refine(Type.String({ minLength: 1, about, must, ...rest }), form);
}

/** A string that may be empty, which is decoded to null. */
export function textOrNone(about: string, options: Default & { must?: string }) {
  const { must = 'a string', ...rest } = options;
  return Type.Decode(Type.String({ about, must, ...rest }), (value) => (value === '' ? null : value));
}

/** One of some words, in any case. */
export function word<const Words extends readonly string[]>(about: string, words: Words, options: Default) {
  const find = (value: string) => words.find((one) => one === value.toLowerCase());
  const must = `one of ${words.map((one) => `"${one}"`).join(', ')}`;
  return Type.Decode(
    Type.Refine(Type.String({ about, must, ...options }), (value) => find(value) !== undefined),
    (value): Words[number] => {
      const found: Words[number] | undefined = find(value);
      if (found === undefined) throw new TypeError('a word that was not checked');
      return found;
    },
  );
}

/** A list of strings, or one string with commas between them; repeated ones count once. */
export function list(
  about: string,
  options: Default & { must?: string; form?: (item: string) => boolean } = {},
) {
  const split = (value: string | string[]) => [
    ...new Set(typeof value === 'string' ? splitCommas(value) : value),
  ];
  const {
    must = 'one or more strings, none of them empty',
    form = (item: string) => item !== '',
    ...rest
  } = options;
  const written = Type.Union([Type.Array(Type.String()), Type.String()], { about, must, ...rest });
  return Type.Decode(
    Type.Refine(written, (value) => split(value).length > 0 && split(value).every(form)),
    split,
  );
}

/** "host:port", IPv6 in brackets, without a scheme or credentials. */
export function isHostAndPort(item: string): boolean {
  const address = parseAddress(item);
  return address !== null && address.port > 0 && !item.startsWith(':') && !item.includes('@');
}

/** Splits at commas, as Go's pflag does: an item with a comma of its own stands in double quotes. */
export function splitCommas(text: string): string[] {
  return [...text.matchAll(/(?:^|,)\s*(?:"((?:[^"]|"")*)"\s*(?=,|$)|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain?.trim() ?? '',
  );
}

/** "host:port" as Go's net.Listen takes it: no host is every address, IPv6 stands in brackets. */
export function address(about: string, options: Default) {
  const must = 'an address like "127.0.0.1:6060", ":6060" or "[::1]:6060"';
  return Type.Decode(
    Type.Refine(Type.String({ about, must, ...options }), (value) => parseAddress(value) !== null),
    (value) => parseAddress(value) ?? { host: '', port: Number.NaN },
  );
}

function parseAddress(value: string): { readonly host: string; readonly port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s:[\]/]*)):([0-9]{1,5})$/.exec(value);
  if (match === null) return null;
  const port = Number(match[3]);
  return port > 65_535 ? null : { host: match[1] ?? (match[2] || '0.0.0.0'), port };
}

/**
 * A value that came as text, from the environment or a flag, as the schema's own type, where the text is
 * one; else as it is, for the schema to refuse. Booleans are those of Go's strconv.ParseBool.
 */
export function fromText(schema: TSchema, value: string): unknown {
  const { type } = schema as TSchema & { type?: string };
  if (type === 'integer') return /^[+-]?[0-9]+$/.test(value) ? Number(value) : value;
  if (type === 'boolean') {
    if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(value)) return true;
    if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(value)) return false;
  }
  return value;
}

/** The decoded value; null if the schema refuses it. */
export function decode<Schema extends TSchema>(
  schema: Schema,
  value: unknown,
): { readonly value: StaticDecode<Schema> } | null {
  return Value.Check(schema, value) ? { value: Value.Decode(schema, value) } : null;
}
