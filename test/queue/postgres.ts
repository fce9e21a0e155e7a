import { randomBytes } from 'node:crypto';
import { after, before, type TestContext } from 'node:test';
import { openPostgresStore } from '../../src/queue/stores/postgres.ts';
import { freshDatabase, type Service } from '../support/services.ts';
import type { Opened } from './conformance.ts';

/** To be called in a suite: opens stores for its tests, each in a schema of its own of one database. */
export function inOneDatabase(server: Service): (t: TestContext) => Promise<Opened> {
  let dsn = '';
  const ends: (() => void | Promise<void>)[] = [];
  before(async () => {
    dsn = await freshDatabase({ after: (end) => void ends.push(end) }, server);
  });
  after(async () => {
    // Those that are added meanwhile, too.
    for (const end of ends) await end();
  });
  return (t) => open(t, dsn, `test "${randomBytes(6).toString('hex')}`);
}

/** A store for one test, its clock in the test's hands. */
export async function open(t: TestContext, dsn: string, schema: string): Promise<Opened> {
  let offset = 0;
  const connect = async () => {
    const store = await openPostgresStore({ dsn, schema, max_active: 2, clockOffset: () => offset });
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
