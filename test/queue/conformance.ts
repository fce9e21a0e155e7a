/**
 * The contract of src/queue/store.ts as tests. Every store runs them all, from a file of its own:
 *
 * @example
 * runStoreConformance('SQLite', { open: async (t) => ({ store, connect, advance }) });
 */
import { suite } from 'node:test';
import { claiming } from './conformance/claiming.ts';
import { dependencies } from './conformance/dependencies.ts';
import { ending } from './conformance/ending.ts';
import { forgetting } from './conformance/forgetting.ts';
import { groups } from './conformance/groups.ts';
import { keys } from './conformance/keys.ts';
import { leases } from './conformance/leases.ts';
import { limits } from './conformance/limits.ts';
import { model } from './conformance/model.ts';
import { posting } from './conformance/posting.ts';
import { reading } from './conformance/reading.ts';
import { type StoreHarness, suites } from './conformance/subject.ts';

export type { Opened, StoreHarness } from './conformance/subject.ts';

export function runStoreConformance(name: string, harness: StoreHarness): void {
  const parts = {
    posting,
    claiming,
    ending,
    leases,
    groups,
    limits,
    keys,
    dependencies,
    forgetting,
    reading,
  };
  for (const [part, define] of Object.entries(parts)) {
    // Each test has a store of its own, so they need not wait for each other.
    suite(`${name}: ${part}`, { concurrency: 4 }, () => define(suites(harness)));
  }
  suite(`${name}: as the model`, () => model(harness));
}
