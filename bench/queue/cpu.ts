/** How much processor time a server has had, by /proc: on a shared machine it is steadier than any time by the clock. */
import { existsSync, readFileSync } from 'node:fs';
import { children } from '../../scripts/services/processes.ts';

/** Linux counts in hundredths of a second, whatever the processor. */
const TICK_MS = 10;

/** Of a process, those that it has started and those of them that have ended, ms; NaN where there is no /proc. */
export function cpuOf(pid: number | null): number {
  if (pid === null || !existsSync(`/proc/${pid}/stat`)) return Number.NaN;
  const [own, ended] = times(pid);
  return children(pid).reduce((sum, child) => sum + times(child)[0], own + ended);
}

function times(pid: number): readonly [own: number, ended: number] {
  try {
    // After the name, which is in parentheses: utime, stime, cutime and cstime are fields 14 to 17.
    const fields =
      readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ').slice(11, 15) ?? [];
    const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.map(Number);
    return [(user + system) * TICK_MS, (childUser + childSystem) * TICK_MS];
  } catch {
    return [0, 0]; // it has ended since: its parent has its time
  }
}
