import type { TestContext } from 'node:test';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import type { Opened } from './conformance.ts';

/** A SQLite store for one test, its clock in the test's hands. */
export async function open(t: TestContext, path: string): Promise<Opened> {
  let offset = 0;
  const connect = async () => {
    const store = await openSqliteStore({ path, clockOffset: () => offset });
    t.after(() => store.close());
    return store;
  };
  return {
    store: await connect(),
    connect,
    advance: (ms) => {
      offset += ms;
    },
  };
}
