/** The values of tags. Each returns undefined for what it does not take. */
import { parseDuration } from '../util/duration.ts';

/** Whole seconds or a duration ("90s", "1h30m"), as seconds; more than 0. */
export function seconds(text: string): number | undefined {
  const ms = parseDuration(text);
  return ms !== null && Number.isFinite(ms) && ms > 0 ? ms / 1000 : undefined;
}

/** A whole number, 1 or more; `_` between digits is allowed. */
export function count(text: string): number | undefined {
  if (!/^[0-9]+(?:_[0-9]+)*$/.test(text)) return undefined;
  const value = Number(text.replaceAll('_', ''));
  return Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** Bytes: "500", "10MB" (of 1,000), "1GiB" (of 1,024). */
export function bytes(text: string): number | undefined {
  const [, amount, unit = ''] = /^([0-9][0-9_]*)\s*([A-Za-z]*)$/.exec(text) ?? [];
  const size = UNITS[unit.toLowerCase()];
  const whole = amount === undefined ? undefined : count(amount);
  if (whole === undefined || size === undefined) return undefined;
  return Number.isSafeInteger(whole * size) ? whole * size : undefined;
}

export function integer(text: string): number | undefined {
  const value = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  return Math.abs(value) < 2 ** 31 ? value : undefined;
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
  const list = text.split(',').map((name) => name.trim());
  return list.includes('') ? undefined : [...new Set(list)];
}

export function name(text: string): string | undefined {
  return /^[^\p{Cc}]{1,256}$/u.test(text) ? text : undefined;
}
