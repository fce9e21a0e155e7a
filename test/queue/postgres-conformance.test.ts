import { suite } from 'node:test';
import { servers } from '../support/services.ts';
import { runStoreConformance } from './conformance.ts';
import { inOneDatabase } from './postgres.ts';

for (const server of servers('postgres')) {
  suite(server.name, { skip: server.skip }, () => {
    runStoreConformance(server.name, { open: inOneDatabase(server) });
  });
}
