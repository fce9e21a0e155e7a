/** A server for a test to kill: runs two endless queries, one in each encoding, and prints their processes. */
import { join } from 'node:path';
import { openSqliteSource } from '../../src/databases/sqlite/source.ts';
import { ENDLESS, queryOptions } from './support.ts';

const folder = process.argv[2] ?? '';
const source = await openSqliteSource({ name: 'ledger', path: join(folder, 'ledger.db'), warm_processes: 2 });
const staged = source.query(ENDLESS, [], queryOptions([{ encoding: 'sqlite-file', directory: folder }]));
const { body } = await source.query(ENDLESS, [], queryOptions([{ encoding: 'rows' }]));
if (body.encoding !== 'rows') throw new Error('not the encoding asked for');
const fetched = body.batches[Symbol.asyncIterator]().next();
console.log(JSON.stringify(source.pids));
await Promise.all([staged, fetched]);
