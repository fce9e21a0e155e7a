import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/**
 * A small file system in memory for one test, at a path that is gone afterwards. `options` are mount's, such as
 * `size=16m`. Null where we may not mount: the test is skipped then, and must return.
 */
export function mounted(t: TestContext, options: string): string | null {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-test-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'none', folder], { stdio: 'ignore' });
  } catch {
    rmdirSync(folder);
    t.skip('missing: the right to mount a file system');
    return null;
  }
  t.after(() => {
    execFileSync('umount', ['-l', folder]); // what has files open there may keep them until it closes them
    rmdirSync(folder);
  });
  return folder;
}
