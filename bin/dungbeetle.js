#!/usr/bin/env node
// Plain old JavaScript, so that a Node too old for the rest can still say so in one line.
import { existsSync } from 'node:fs';

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `dungbeetle: Node ${process.versions.node} is too old: it needs 22.18 or later (in a checkout, "npx dungbeetle" after "npm ci" runs the one it brings)`,
  );
  process.exit(1);
}
const built = new URL('../dist/cli.js', import.meta.url);
const { main } = await import(
  existsSync(built) ? built.href : new URL('../src/cli.ts', import.meta.url).href
);
await main();
