/** The rows that are moved: nine columns of common types, the same in every source. */
import { DatabaseSync } from 'node:sqlite';
import { execute } from '../../test/support/services.ts';

export type SourceEngine = 'postgres' | 'mysql' | 'clickhouse' | 'sqlite';
export type BackendEngine = 'postgres' | 'mysql' | 'sqlite';

export const QUERY = 'SELECT * FROM entries';

/** Postgres' types of the nine columns, for its own tools. */
export const POSTGRES_COLUMNS =
  'id bigint, name varchar(40), amount numeric(14,2), day_number integer, rate double precision, day date, at timestamptz, note text, settled boolean';
/** MySQL's. */
export const MYSQL_COLUMNS =
  'id BIGINT, name VARCHAR(40), amount DECIMAL(14,2), day_number INT, rate DOUBLE, day DATE, at DATETIME(6), note LONGTEXT, settled BOOLEAN';

/** Makes table `entries` in an empty database. */
export async function fill(engine: SourceEngine, dsn: string, rows: number): Promise<void> {
  switch (engine) {
    case 'postgres':
      await execute(
        dsn,
        `CREATE TABLE entries (${POSTGRES_COLUMNS});
         INSERT INTO entries SELECT i, 'customer ' || i % 5000, (i::bigint * 7919 % 10000000)::numeric / 100, i % 365,
           i::float8 / 7, date '2020-01-01' + i % 1461, timestamptz '2020-01-01 00:00:00+00' + i * interval '1.000123 s',
           CASE WHEN i % 3 = 0 THEN NULL ELSE E'paid\\tin cash,\\nno receipt ' || i END, i % 2 = 0
         FROM generate_series(1, ${rows}) i`,
      );
      await execute(dsn, 'VACUUM ANALYZE entries');
      break;
    case 'mysql':
      await execute(dsn, `CREATE TABLE entries (${MYSQL_COLUMNS})`);
      await execute(
        dsn,
        `INSERT INTO entries SELECT seq, CONCAT('customer ', seq % 5000), (seq * 7919 % 10000000) / 100, seq % 365,
           seq / 7e0, DATE('2020-01-01') + INTERVAL seq % 1461 DAY, TIMESTAMP('2020-01-01') + INTERVAL seq * 1000123 MICROSECOND,
           IF(seq % 3 = 0, NULL, CONCAT('paid\\tin cash,\\nno receipt ', seq)), seq % 2 = 0
         FROM seq_1_to_${rows}`,
      );
      break;
    case 'clickhouse':
      await execute(
        dsn,
        `CREATE TABLE entries (id Int64, name String, amount Decimal(14,2), day_number Int32, rate Float64, day Date, at DateTime('UTC'), note Nullable(String), settled UInt8) ENGINE = Log`,
      );
      await execute(
        dsn,
        `INSERT INTO entries SELECT toInt64(number + 1) AS i, concat('customer ', toString(i % 5000)), toDecimal64(i * 7919 % 10000000, 2) / 100, toInt32(i % 365),
           i / 7., toDate('2020-01-01') + i % 1461, toDateTime('2020-01-01 00:00:00', 'UTC') + i,
           if(i % 3 = 0, NULL, concat('paid\\tin cash,\\nno receipt ', toString(i))), i % 2 = 0
         FROM numbers(${rows})`,
      );
      break;
    case 'sqlite': {
      const database = new DatabaseSync(dsn.replace('sqlite:', ''));
      database.exec(
        `PRAGMA journal_mode = WAL;
         CREATE TABLE entries (id INTEGER, name TEXT, amount DECIMAL, day_number INTEGER, rate DOUBLE, day DATE, at DATETIME, note TEXT, settled BOOLEAN);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
         INSERT INTO entries SELECT i, 'customer ' || i % 5000, (i * 7919 % 10000000) / 100.0, i % 365, i / 7.0,
           date('2020-01-01', '+' || i % 1461 || ' days'), datetime('2020-01-01', '+' || i || ' seconds'),
           CASE WHEN i % 3 = 0 THEN NULL ELSE 'paid' || char(9) || 'in cash,' || char(10) || 'no receipt ' || i END, i % 2 = 0 FROM n`,
      );
      database.close();
    }
  }
}
