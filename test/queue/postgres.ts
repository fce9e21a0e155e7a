import { after, before, type TestContext } from 'node:test';
import { openPostgresStore } from '../../src/queue/stores/postgres.ts';
import { afterOthers } from '../support/scope.ts';
import { execute, freshDatabase, type Service } from '../support/services.ts';
import type { Opened } from './conformance.ts';

/** What jobs leave behind. The rest of a schema is the same for all. */
const TABLES = [
  'jobs',
  'waiting',
  'leases',
  'outcomes',
  'dependencies',
  'groups',
  'pools',
  'tallies',
  'paused_queues',
];

/**
 * To be called in a suite: opens stores for its tests in one database, each in a schema that no other test uses at
 * the time. A schema that is emptied is several times as quick as a new one.
 */
export function inOneDatabase(server: Service): (t: TestContext) => Promise<Opened> {
  let dsn = '';
  let made = 0;
  const free: string[] = [];
  const ends: (() => void | Promise<void>)[] = [];
  before(async () => {
    dsn = await freshDatabase({ after: (end) => void ends.push(end) }, server);
  });
  after(async () => {
    // Those that are added meanwhile, too.
    for (const end of ends) await end();
  });
  return async (t) => {
    let schema = free.pop();
    if (schema === undefined) {
      made += 1;
      schema = `Test "${made}"`;
    } else {
      const quoted = `"${schema.replaceAll('"', '""')}"`;
      await execute(dsn, TABLES.map((table) => `DELETE FROM ${quoted}.${table}`).join(';'));
    }
    const used = schema;
    afterOthers(t, () => void free.push(used));
    return open(t, dsn, schema);
  };
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
