import { join } from 'node:path';
import { tempFolder } from '../support/folder.ts';
import { runStoreConformance } from './conformance.ts';
import { open } from './sqlite.ts';

runStoreConformance('SQLite file', { open: (t) => open(t, join(tempFolder(t), 'queue.db')) });
