/** The smallest value that at least `q` of the values do not exceed. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
  if (value === undefined) throw new Error('there are no values to take a quantile of');
  return value;
}

export interface Repeated {
  readonly per_second: number;
  /** What each took, ms. */
  readonly times: readonly number[];
}

/** Does something so many times, so many at once: each begins when one before it has ended. */
export async function repeat(count: number, at_once: number, act: () => Promise<unknown>): Promise<Repeated> {
  const times: number[] = [];
  let left = count;
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: at_once }, async () => {
      while (left-- > 0) {
        const sent = performance.now();
        await act();
        times.push(performance.now() - sent);
      }
    }),
  );
  return { per_second: (count / (performance.now() - begun)) * 1000, times };
}
