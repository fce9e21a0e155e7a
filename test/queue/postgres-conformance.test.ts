import { suite } from 'node:test';
import { servers } from '../support/services.ts';
import { runStoreConformance } from './conformance.ts';
import { inOneDatabase } from './postgres.ts';

// Both wait for their disks most of the time.
suite('Postgres', { concurrency: 2 }, () => {
  for (const server of servers('postgres')) {
    suite(server.name, { skip: server.skip }, () => {
      runStoreConformance(server.name, { open: inOneDatabase(server) });
    });
  }
});
