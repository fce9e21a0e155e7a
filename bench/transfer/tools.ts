/** The same copies by the engines' own tools, piped together, and one INSERT a row by their drivers. */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { execute } from '../../test/support/services.ts';
import { type BackendEngine, MYSQL_COLUMNS, POSTGRES_COLUMNS, type SourceEngine } from './data.ts';

const run = promisify(execFile);
const COLUMNS = 'id, name, amount, day_number, rate, day, at, note, settled';
const ROWS_ONE_BY_ONE = 5_000;

/** Writes all of `entries` to standard output, for the backend's tool to read. */
function reading(from: SourceEngine, to: BackendEngine, dsn: string): string | null {
  const url = from === 'sqlite' ? null : new URL(dsn);
  const database = url?.pathname.slice(1);
  switch (from) {
    case 'postgres':
      if (to === 'postgres')
        return `psql -qX '${dsn}' -c 'COPY (SELECT * FROM entries) TO STDOUT (FORMAT binary)'`;
      return `PGTZ=UTC psql -qX '${dsn}' -c "COPY (SELECT id, name, amount, day_number, rate, day, at AT TIME ZONE 'UTC', note, settled::int FROM entries) TO STDOUT"`;
    case 'mysql':
      return `MYSQL_PWD='${url?.password}' mariadb --batch --quick --skip-column-names -h ${url?.hostname} -P ${url?.port} -u ${url?.username} ${database} -e "SELECT id, name, amount, day_number, rate, day, at, IFNULL(note, '\\0N'), settled FROM entries" | sed 's/\\\\0N/\\\\N/'`;
    case 'clickhouse':
      return `curl -sS -u '${url?.username}:${url?.password}' 'http://${url?.host}/?database=${database}' --data-binary 'SELECT * FROM entries FORMAT TabSeparated'`;
    case 'sqlite':
      return null;
  }
}

function writing(from: SourceEngine, to: BackendEngine, dsn: string): string | null {
  const url = to === 'sqlite' ? null : new URL(dsn);
  switch (to) {
    case 'postgres':
      return `PGTZ=UTC psql -qX '${dsn}' -c 'COPY by_tools FROM STDIN${from === 'postgres' ? ' (FORMAT binary)' : ''}'`;
    case 'mysql':
      return `MYSQL_PWD='${url?.password}' mariadb --local-infile=1 -h ${url?.hostname} -P ${url?.port} -u ${url?.username} ${url?.pathname.slice(1)} -e "LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE by_tools"`;
    case 'sqlite':
      return null;
  }
}

/** ms; null where there are no such tools. */
export async function copyByTools(
  from: SourceEngine,
  to: BackendEngine,
  source: string,
  backend: string,
  rows: number,
): Promise<number | null> {
  const [read, write] = [reading(from, to, source), writing(from, to, backend)];
  if (read === null || write === null) return null;
  await execute(backend, 'DROP TABLE IF EXISTS by_tools');
  await execute(
    backend,
    to === 'postgres'
      ? `CREATE UNLOGGED TABLE by_tools (${POSTGRES_COLUMNS})`
      : `CREATE TABLE by_tools (${MYSQL_COLUMNS})`,
  );
  const begun = performance.now();
  await run('bash', ['-o', 'pipefail', '-c', `${read} | ${write}`]);
  const ms = performance.now() - begun;
  const [[count] = []] = await execute(backend, 'SELECT count(*) FROM by_tools');
  if (Number(count) !== rows)
    throw new Error(`the tools copied ${count} of ${rows} rows from ${from} to ${to}`);
  await execute(backend, 'DROP TABLE by_tools');
  return ms;
}

/** Rows a second where each is an INSERT of its own, all in one transaction. */
export async function insertOneByOne(to: BackendEngine, dsn: string): Promise<number> {
  const row = [1, 'customer 1', '12.34', 5, 0.25, '2024-02-29', '2024-02-29 12:00:00', 'paid in cash', 1];
  const begun = () => performance.now();
  let start: number;
  switch (to) {
    case 'postgres': {
      const client = new pg.Client({ connectionString: dsn });
      await client.connect();
      await client.query(
        `CREATE UNLOGGED TABLE one_by_one (${POSTGRES_COLUMNS.replace('boolean', 'integer')})`,
      );
      start = begun();
      await client.query('BEGIN');
      const text = `INSERT INTO one_by_one (${COLUMNS}) VALUES (${row.map((_, index) => `$${index + 1}`).join(', ')})`;
      for (let n = 0; n < ROWS_ONE_BY_ONE; n += 1) await client.query({ name: 'one', text, values: row });
      await client.query('COMMIT');
      const ms = performance.now() - start;
      await client.query('DROP TABLE one_by_one');
      await client.end();
      return (ROWS_ONE_BY_ONE / ms) * 1000;
    }
    case 'mysql': {
      const connection = await createConnection(dsn);
      await connection.query(`CREATE TABLE one_by_one (${MYSQL_COLUMNS})`);
      start = begun();
      await connection.query('START TRANSACTION');
      const text = `INSERT INTO one_by_one (${COLUMNS}) VALUES (${row.map(() => '?').join(', ')})`;
      for (let n = 0; n < ROWS_ONE_BY_ONE; n += 1) await connection.execute(text, row);
      await connection.query('COMMIT');
      const ms = performance.now() - start;
      await connection.query('DROP TABLE one_by_one');
      await connection.end();
      return (ROWS_ONE_BY_ONE / ms) * 1000;
    }
    case 'sqlite': {
      const path = `${dsn.replace('sqlite:', '')}.one`;
      const database = new DatabaseSync(path);
      database.exec(`PRAGMA journal_mode = WAL; CREATE TABLE one_by_one (${COLUMNS})`);
      const insert = database.prepare(`INSERT INTO one_by_one VALUES (${row.map(() => '?').join(', ')})`);
      start = begun();
      database.exec('BEGIN');
      for (let n = 0; n < ROWS_ONE_BY_ONE; n += 1) insert.run(...row);
      database.exec('COMMIT');
      const ms = performance.now() - start;
      database.close();
      rmSync(path, { force: true });
      return (ROWS_ONE_BY_ONE / ms) * 1000;
    }
  }
}
