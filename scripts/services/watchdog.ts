/**
 * Ends what its parent leaves behind when it could not do so itself, because it was killed. Standard input is a
 * pipe that only the parent holds: its end is the parent's. Each line is a message in JSON.
 */
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { abandon, type Message } from './processes.ts';

const processes = new Map<number, NodeJS.Signals>();
const folders = new Set<string>();

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

for await (const line of createInterface({ input: process.stdin })) {
  const message: Message = JSON.parse(line);
  if ('started' in message) processes.set(message.started, message.abandon);
  else if ('ended' in message) processes.delete(message.ended);
  else folders.add(message.folder);
}
await Promise.all([...processes].map(([pid, signal]) => abandon(pid, signal)));
for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 20 });
