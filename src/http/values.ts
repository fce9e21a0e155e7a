/** Values that the wire has as text: times, durations, booleans. Each reader returns null for what it is not. */

// What RFC 3339 can write: an offset can lead out of it.
const FIRST_TIME = Date.parse('0000-01-01T00:00:00.000Z');
const LAST_TIME = Date.parse('9999-12-31T23:59:59.999Z');

const TIME =
  /^(\d{4})-(\d\d)-(\d\d)(?: (\d\d:\d\d:\d\d)|[Tt ](\d\d:\d\d:\d\d)(\.\d+)?(?:([Zz])|([+-])(\d\d):(\d\d)))$/;

/**
 * ms since 1970 of `yyyy-mm-dd hh:mm:ss`, which is UTC, or of an RFC 3339 time with its offset. A part of a
 * millisecond counts as a whole one: a job never runs before its time. Dates that no calendar has (30
 * February) and leap seconds are null.
 */
export function parseTime(text: string): number | null {
  const match = TIME.exec(text);
  if (match === null) return null;
  const [, year, month, day, plain, clock, fraction = '', , sign, offset_hours, offset_minutes] = match;
  const iso = `${year}-${month}-${day}T${plain ?? clock}.000Z`;
  const whole = Date.parse(iso);
  // V8 reads 2024-02-30 as 1 March: what comes back must be what went in.
  if (Number.isNaN(whole) || new Date(whole).toISOString() !== iso) return null;
  const ms = fraction === '' ? 0 : Math.ceil(Number(fraction) * 1000);
  const hours = Number(offset_hours ?? 0);
  const minutes = Number(offset_minutes ?? 0);
  if (hours > 23 || minutes > 59) return null;
  const offset = (hours * 60 + minutes) * 60_000;
  const time = whole + ms + (sign === '+' ? -offset : offset);
  return time >= FIRST_TIME && time <= LAST_TIME ? time : null;
}

/** RFC 3339 in UTC with milliseconds, or null. */
export function formatTime(ms: number): string;
export function formatTime(ms: number | null): string | null;
export function formatTime(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** ms of a Go duration (`30s`, `1m30s`, `500ms`), or of plain seconds (`30`, `0.5`). */
export function parseDuration(text: string): number | null {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text)) return null;
  let total = 0;
  for (const [, number, unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|μs|ms|s|m|h)/g)) {
    total += Number(number) * (UNITS[unit] ?? Number.NaN);
  }
  return total;
}

/** The forms that Go's strconv.ParseBool takes. */
export function parseBoolean(text: string): boolean | null {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  return null;
}
