/** Durations as Go writes them, which is how DungBeetle's config.toml has them. */

/** Longest delay of a timer, 24.8 days: beyond it Node fires at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3, // U+00B5, the micro sign
  μs: 1e-3, // U+03BC, the Greek letter; Go takes both
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** Milliseconds of "1m30s", "1.5h", or of a whole number of seconds; null if it is none of these. */
export function parseDuration(value: string | number): number | null {
  if (typeof value === 'number') return Number.isInteger(value) && value >= 0 ? value * 1_000 : null;
  if (/^[0-9]+$/.test(value)) return Number(value) * 1_000;
  if (!/^(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(value)) return null;
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/([0-9.]+)([a-zµμ]+)/g)) {
    total += Number(amount) * (UNIT_MS[unit ?? ''] ?? Number.NaN);
  }
  return total;
}

/** The shortest exact way to write a duration: 90_000 → "90s". */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s';
  for (const unit of ['h', 'm', 's'] as const) {
    const size = UNIT_MS[unit] ?? 1;
    if (ms % size === 0 && (unit === 's' || ms / size < 1_000)) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}
