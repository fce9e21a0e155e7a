/** The queues that ours is measured beside: packages of the bench alone, installed when it is run first. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const BENCH = new URL('../', import.meta.url);

/** Resolves with their versions, for people. */
export async function installPeers(): Promise<string> {
  const { dependencies } = read<{ dependencies: Record<string, string> }>('package.json');
  const isThere = Object.entries(dependencies).every(([name, version]) => installed(name) === version);
  if (!isThere) {
    console.error('installing what bench/package.json names, by npm ci …');
    const npm = spawn('npm', ['ci', '--prefix', fileURLToPath(BENCH)], { stdio: ['ignore', 2, 2] });
    const [code] = await once(npm, 'close');
    if (code !== 0) throw new Error(`npm ci --prefix bench ended with ${code}`);
  }
  return ['bullmq', 'pg-boss', 'graphile-worker'].map((name) => `${name} ${installed(name)}`).join(', ');
}

function installed(name: string): string | null {
  const manifest = `node_modules/${name}/package.json`;
  return existsSync(new URL(manifest, BENCH)) ? read<{ version: string }>(manifest).version : null;
}

function read<T>(path: string): T {
  return JSON.parse(readFileSync(new URL(path, BENCH), 'utf8'));
}
