/** A float as text, where the column is one of texts: it must not read like an integer. */

/** The lowest and highest power of ten that SQLite writes without an exponent. */
const LOWEST_PLAIN = -4;
const HIGHEST_PLAIN = 16;

/**
 * In SQLite's form (1.0, 1.0e+22, 1.5e-07), with the shortest digits that read as the same value. SQLite itself
 * shows no sign of a negative zero, and before 3.52 no more than 15 digits.
 */
export function realText(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Object.is(value, -0)) return '-0.0';
  const [digits = '', power = ''] = value.toExponential().split('e');
  const exponent = Number(power);
  if (exponent >= LOWEST_PLAIN && exponent <= HIGHEST_PLAIN) return withPoint(String(value));
  return `${withPoint(digits)}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

function withPoint(digits: string): string {
  return digits.includes('.') ? digits : `${digits}.0`;
}
