import { suite } from 'node:test';
import { servers } from '../support/services.ts';
import { runStoreConformance } from './conformance.ts';
import { open } from './redis.ts';

for (const server of servers('redis')) {
  suite(server.name, { skip: server.skip }, () => {
    runStoreConformance('Redis', { open: (t) => open(t, server) });
  });
}
