/** Memory does not grow with the result. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { openBench, report } from './support.ts';

/** The most resident memory that a process has had, MB. */
function peak(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

for (const encoding of ['sqlite-file', 'rows'] as const) {
  test(`a result five times as large takes no more memory, by ${encoding}`, async (t) => {
    const bench = await openBench(t, { max_active: 1 });
    // 1,000 bytes a row: what is more in the second one is 240 MB.
    const rows = (count: number) =>
      `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ${count}) SELECT x, hex(zeroblob(500)) AS text FROM c`;
    const peaks = () => [process.pid, ...bench.source.pids, ...bench.results.pids].map(peak);
    await report(bench, 'fewer', rows(60_000), { encoding });
    const before = peaks();
    await report(bench, 'more', rows(300_000), { encoding });
    const after = peaks();
    assert.equal(after.length, 3);
    after.forEach((most, index) => {
      const grown = most - (before[index] ?? 0);
      // V8 alone takes up to 100 MB for young objects when there are many of them.
      assert.ok(grown < 120, `process ${index}: ${Math.round(grown)} MB more, ${Math.round(most)} MB in all`);
    });
  });
}
