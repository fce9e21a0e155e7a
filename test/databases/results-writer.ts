/**
 * A server for a test: writes reports to a results file that other processes write to as well, and prints
 * its child processes, and a line for each one published. With `forever` it goes on until it is killed.
 */
import { join } from 'node:path';
import { openSqliteResults } from '../../src/databases/sqlite/results.ts';
import { openSqliteSource } from '../../src/databases/sqlite/source.ts';
import { numbers, owner, report } from './support.ts';

const [folder = '', name = '', rows = '1', times = '1'] = process.argv.slice(2);
const source = await openSqliteSource({ name: 'ledger', path: join(folder, 'ledger.db'), warm_processes: 1 });
const results = await openSqliteResults({ name: 'reports', path: join(folder, 'results.db') });
console.log(JSON.stringify([...source.pids, ...results.pids]));
for (let run = 0; times === 'forever' || run < Number(times); run++) {
  const table = await report({ source, results }, name, numbers(Number(rows)), {
    owner: owner(name, { store_id: name }),
  });
  console.log(`published ${table.rows}`);
}
await source.close();
await results.close();
