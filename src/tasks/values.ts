/** The values of tags. Each returns undefined for what it does not take. */
import { parseDuration } from '../util/duration.ts';

/** Some 31 years, the same bound as for jobs: what is longer is a slip, and overflows dates. */
const LONGEST_MS = 1_000_000_000_000;

/** Seconds or a duration ("90s", "1h30m"), as seconds, to the millisecond; more than 0. */
export function seconds(text: string): number | undefined {
  const ms = Math.round(parseDuration(text) ?? Number.NaN);
  return ms >= 1 && ms <= LONGEST_MS ? ms / 1000 : undefined;
}

/** The same, but whole seconds only. */
export function wholeSeconds(text: string): number | undefined {
  const value = seconds(text);
  return value !== undefined && Number.isInteger(value) ? value : undefined;
}

/** A whole number, 1 or more; `_` between digits is allowed. */
export function count(text: string): number | undefined {
  if (!/^[0-9]+(?:_[0-9]+)*$/.test(text)) return undefined;
  const value = Number(text.replaceAll('_', ''));
  return Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['tb', 1e12],
  ['kib', 2 ** 10],
  ['mib', 2 ** 20],
  ['gib', 2 ** 30],
  ['tib', 2 ** 40],
]);

/** Bytes: "500", "10MB" (of 1,000), "1GiB" (of 1,024). A bare "10M" is refused: it means either. */
export function bytes(text: string): number | undefined {
  const [, amount = '', unit = ''] = /^([0-9_]+)\s*([A-Za-z]*)$/.exec(text) ?? [];
  const size = UNITS.get(unit.toLowerCase());
  const whole = count(amount);
  if (whole === undefined || size === undefined) return undefined;
  return Number.isSafeInteger(whole * size) ? whole * size : undefined;
}

export function integer(text: string): number | undefined {
  const value = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  // Adding 0 makes a 0 of "-0".
  return Math.abs(value) < 2 ** 31 ? value + 0 : undefined;
}

/**
 * In the original any `raw` tag means raw, whatever its value; one that says no is taken at its word here,
 * since preparing a task that need not be is the safe side.
 */
export function truth(text: string): boolean | undefined {
  if (/^(?:1|true|yes|on|t|y)$/i.test(text)) return true;
  if (/^(?:0|false|no|off|f|n)$/i.test(text)) return false;
  return undefined;
}

/** "a, b": names without blanks around them, each once. */
export function names(text: string): readonly string[] | undefined {
  const list = text.split(',').map((one) => name(one.trim()));
  return list.every((one) => one !== undefined) ? [...new Set(list)] : undefined;
}

/** Anything that can stand in a URL and on one line of a log. */
export function name(text: string): string | undefined {
  return text === '' || /[\p{Cc}\u2028\u2029]/u.test(text) ? undefined : text;
}

/** A name; one with a comma is two queues, and a task has one. */
export function queueName(text: string): string | undefined {
  return text.includes(',') ? undefined : name(text);
}
