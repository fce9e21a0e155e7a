/**
 * Ends what its parent leaves behind when it could not do so itself, because it was killed. Standard input is a
 * pipe that only the parent holds: its end is the parent's. Lines: `process <pid>`, `ended <pid>`, `folder <path>`.
 */
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { killAll } from './processes.ts';

const processes = new Set<number>();
const folders = new Set<string>();

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

for await (const line of createInterface({ input: process.stdin })) {
  const [what = '', ...rest] = line.split(' ');
  const value = rest.join(' ');
  if (what === 'process') processes.add(Number(value));
  if (what === 'ended') processes.delete(Number(value));
  if (what === 'folder') folders.add(value);
}
await Promise.all([...processes].map(killAll));
for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 20 });
