/** Prints the first rows of a result table: npm run demo:table -- results_myjob */
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';

const [table] = process.argv.slice(2);
if (table === undefined) {
  console.error('usage: npm run demo:table -- TABLE');
  process.exit(1);
}
const database = new DatabaseSync(fileURLToPath(new URL('data/results.db', import.meta.url)), {
  readOnly: true,
  timeout: 10_000,
});
const exists = database.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(table);
if (exists === undefined) {
  console.error(`there is no table "${table}"`);
  process.exit(1);
}
const name = `"${table.replaceAll('"', '""')}"`;
console.table(database.prepare(`SELECT * FROM ${name} LIMIT 20`).all());
console.log(`${database.prepare(`SELECT count(*) AS count FROM ${name}`).get()?.['count']} rows in ${table}`);
