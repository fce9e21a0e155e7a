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
// A checkout runs its sources as they are, whatever was built once; the package has only what was built.
const source = new URL('../src/cli.ts', import.meta.url);
const { main } = await import(
  existsSync(source) ? source.href : new URL('../dist/cli.js', import.meta.url).href
);
await main();
