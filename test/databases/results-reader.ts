/** A reader for a test: counts the rows of a table over and over, until told to stop; prints what it saw. */
import { DatabaseSync } from 'node:sqlite';

const [path = '', table = ''] = process.argv.slice(2);
const db = new DatabaseSync(path, { readOnly: true, timeout: 30_000 });
const seen = new Map<string, number>();
let stopped = false;
process.once('message', () => {
  stopped = true;
});
process.send?.('ready');

function look(): void {
  let what: string;
  try {
    // A table is as one run made it: the number of its rows, all of that run.
    const row = db.prepare(`SELECT count(*) AS n, count(DISTINCT run) AS runs FROM "${table}"`).get();
    what = `${row?.['n']} rows of ${row?.['runs']} runs`;
  } catch (error) {
    what = String(error);
  }
  seen.set(what, (seen.get(what) ?? 0) + 1);
  if (!stopped) setImmediate(look);
  else process.send?.(Object.fromEntries(seen), () => process.disconnect());
}
look();
