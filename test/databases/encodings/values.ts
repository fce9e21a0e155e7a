/** Values for tests of encodings. */
import fc from 'fast-check';
import type { Moment } from '../../../src/databases/encodings/field-writer.ts';

/** From the year 1 to 9999, with microseconds. */
export const timestamps: fc.Arbitrary<string> = fc
  .tuple(
    fc.date({
      min: new Date('0001-01-01T00:00:00Z'),
      max: new Date('9999-12-31T23:59:59Z'),
      noInvalidDate: true,
    }),
    fc.nat(999),
  )
  .map(([date, micros]) =>
    date.toISOString().replace('T', ' ').replace('Z', String(micros).padStart(3, '0')),
  );

/** Of a text as `timestamps` gives. */
export function momentOf(timestamp: string): Moment {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, microsecond = 0] = timestamp
    .split(/[-: .]/)
    .map(Number);
  return { year, month, day, hour, minute, second, microsecond };
}

/** The same bytes in pieces, some of them perhaps empty. */
export function cutAt(data: Buffer, cuts: readonly number[]): Buffer[] {
  const places = cuts.map((cut) => cut % (data.length + 1)).toSorted((one, other) => one - other);
  return [...places, data.length].map((end, index) => data.subarray(places[index - 1] ?? 0, end));
}
