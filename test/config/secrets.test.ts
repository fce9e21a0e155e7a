import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConfigError } from '../../src/config/errors.ts';
import { loadConfig } from '../../src/config/load.ts';
import { DATABASES, place } from './support.ts';

const SECRET = 'S3CRET';
const DSN = `postgres://user:${SECRET}@host:5432/db?sslmode=disable`;

test('no message holds a secret, wherever it was put', (t) => {
  const { message } = place(t);
  const files = [
    DATABASES.replace('sqlite:ledger.db', DSN),
    DATABASES.replace('sqlite:results.db', `${SECRET}?mode=${SECRET}`),
    DATABASES.replace('"sqlite:ledger.db"', DSN), // no quotes
    DATABASES.replace('"sqlite:ledger.db"', `"${DSN}`), // one quote
    DATABASES.replace('"sqlite:ledger.db"', `["${DSN}"]`),
    DATABASES.replace('dsn = "sqlite:ledger.db"', `"${DSN}" = 1`), // as a key
    DATABASES.replace('dsn = "sqlite:ledger.db"', `[db.ledger."${DSN}"]`),
    DATABASES.replace('"sqlite:ledger.db"', `"${DSN}"\ndsn = "${DSN}"`), // twice
    DATABASES.replace('"sqlite:ledger.db"', `"\\q${DSN}"`),
    DATABASES.replace('"sqlite:ledger.db"', `"""${DSN}`),
    DATABASES.replace('type = "sqlite"', `type = "${DSN}"`),
    `[db."${DSN}"]\ntype = "sqlite"\n${DATABASES}`,
    `"${DSN}" = "x"\n${DATABASES}`,
    `[job_queue."${DSN}"]\n${DATABASES}`,
    `[job_queue.state]\ntype = "redis"\npassword = "${SECRET}"\n${DATABASES}`,
    `[job_queue.state]\npassword = "${SECRET}"\n${DATABASES}`,
    `[job_queue.broker]\npath = "${DSN}"\n${DATABASES}`,
    ...['state', 'broker'].flatMap((section) =>
      [
        `type = "redis"\naddresses = ["${DSN}"]`,
        `type = "redis"\naddresses = ["user:${SECRET}@host:6379"]`,
        `type = "redis"\naddresses = "${SECRET}@host:6379"`,
        `type = "redis"\naddresses = ["a:1"]\npassword = ["${SECRET}"]`,
        `type = "redis"\naddresses = ["a:1"]\npassword = "${SECRET}"\ndb = -1`,
        `type = "redis"\naddresses = ["a:1"]\npassword = "${SECRET}"\nsentinel_password = "${SECRET}"`,
        `type = "redis"\naddresses = ["a:1", "b:2"]\ncluster = false\npassword = "${SECRET}"`,
        `type = "redis"\naddresses = ["a:1"]\nprefix = "{${SECRET}}"`,
        `type = "redis"\naddresses = ["a:1"]\ndb = "${SECRET}"`,
        `type = "postgres"\ndsn = "${DSN.replace('disable', 'sometimes')}"`,
        `type = "postgres"\ndsn = "${DSN.replace('postgres:', 'mysql:')}"`,
        `type = "postgres"\ndsn = "${DSN}"\nlisten_dsn = "${SECRET}"`,
        `type = "postgres"\ndsn = "${DSN}"\nschema = "pg_${SECRET}"`,
        `type = "postgres"\ndsn = "${DSN}"\naddresses = ["${SECRET}:1"]`,
        `type = "${DSN}"`,
      ].map((lines) => `[job_queue.${section}]\n${lines}\n${DATABASES}`),
    ),
    `[job_queue.broker]\ntype = "postgres"\ndsn = "${DSN}"\n[job_queue.state]\ndsn = "${DSN}&x=y"\n${DATABASES}`,
    `[job_queue.broker]\ntype = "redis"\naddresses = ["${SECRET}:1"]\n[job_queue.state]\naddresses = ["b:1"]\n${DATABASES}`,
    `server = "${DSN}"\n${DATABASES}`,
    `worker_concurrency = "${DSN}"\n${DATABASES}`,
    `[app]\nlog_level = "${DSN}"\n${DATABASES}`,
    `[app]\nlease = "${DSN}"\n${DATABASES}`,
  ];
  for (const toml of files) assert.ok(!message({ toml }).includes(SECRET), message({ toml }));
  for (const argv of [
    [DSN],
    [`--dsn=${DSN}`],
    [`--${DSN}`],
    [`-${DSN}`],
    ['--server', DSN],
    ['--server', SECRET],
    ['--worker-concurrency', DSN],
    [`--worker-only=${DSN}`],
  ]) {
    assert.ok(!message({ argv }).includes(SECRET), message({ argv }));
  }
  for (const variable of [
    'DB__LEDGER__DSN',
    'DB__LEDGER__TYPE',
    'DB__LEDGER__PASSWORD',
    'SERVER',
    'X',
    'DB',
    'PORT',
    `DB__LEDGER__DSN:${DSN}`,
    'JOB_QUEUE__STATE__TYPE',
    'JOB_QUEUE__STATE__DSN',
    'JOB_QUEUE__STATE__ADDRESSES',
    'JOB_QUEUE__BROKER__PASSWORD',
  ]) {
    const env = { [`DUNGBEETLE_${variable}`]: DSN };
    assert.ok(!message({ env }).includes(SECRET), message({ env }));
  }
});

test('whatever a value is, the message is one line without it, and nothing but a ConfigError is thrown', (t) => {
  const { folder, load } = place(t);
  load({}); // writes the file
  // Longer than any word of ours, so that it cannot be in a message by chance.
  const value = fc.string({ minLength: 24, unit: 'binary' }).filter((text) => text.trim().length >= 24);
  const variables = [
    'DB__LEDGER__TYPE',
    'DB__LEDGER__DSN',
    'RESULTS__REPORTS__RESULTS_TABLE',
    'SERVER',
    'APP__LEASE',
  ];
  fc.assert(
    fc.property(fc.constantFrom(...variables), value, (variable, text) => {
      try {
        loadConfig({ argv: [], env: { [`DUNGBEETLE_${variable}`]: text }, cwd: folder });
      } catch (error) {
        assert.ok(error instanceof ConfigError, String(error));
        assert.ok(!error.message.includes(text));
        assert.doesNotMatch(error.message, /[\r\n]/);
      }
    }),
    { numRuns: 300 },
  );
});
