/** A process of its own that asks a source, to be killed: DSN and owner come as arguments. */
import { openMysqlSource } from '../../../src/databases/mysql/source.ts';
import { queryOptions } from '../support.ts';

const [dsn = '', owner = '{}'] = process.argv.slice(2);
const source = await openMysqlSource({
  name: 'app',
  dsn,
  max_active: 1,
  max_idle: 1,
  connect_timeout_ms: 10_000,
});
await source.query(
  'SELECT SLEEP(1000)',
  [],
  queryOptions([{ encoding: 'rows' }], { owner: JSON.parse(owner) }),
);
