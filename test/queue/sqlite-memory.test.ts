import { runStoreConformance } from './conformance.ts';
import { open } from './sqlite.ts';

runStoreConformance('SQLite in memory', {
  open: (t) => open(t, ':memory:'),
  skip: { connections: 'a store in memory belongs to one connection' },
});
