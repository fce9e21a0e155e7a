/** How an account of MySQL's own server logs in, with a TLS that the server offers to everybody or without. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, type TestContext, test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { never, writeOptions } from '../support.ts';
import { numbers, openResults } from './results-support.ts';
import { isMariadb, openSource, rowsOf } from './source-support.ts';

const CIPHER =
  "SELECT VARIABLE_VALUE FROM performance_schema.session_status WHERE VARIABLE_NAME = 'Ssl_cipher'";

for (const server of servers('mysql').filter((each) => !isMariadb(each))) {
  suite(`logins of ${server.name}`, { skip: server.skip }, () => {
    /** A DSN of a new account, whose password the server does not know in the short form that later logins use. */
    const account = async (t: TestContext, demand = '') => {
      const url = new URL(await freshDatabase(t, server));
      const admin = url.href;
      const database = url.pathname.slice(1);
      url.username = database;
      url.password = encodeURIComponent(`ü%/ ${randomBytes(40).toString('base64')}`);
      const password = decodeURIComponent(url.password);
      await execute(
        admin,
        `CREATE USER ${database} IDENTIFIED WITH caching_sha2_password BY '${password}' ${demand}`,
      );
      t.after(() => execute(admin, `DROP USER ${database}`));
      await execute(admin, `GRANT ALL ON ${database}.* TO ${database}`);
      return (tls: string) => {
        const dsn = new URL(url);
        if (tls !== '') dsn.searchParams.set('tls', tls);
        return dsn.href;
      };
    };

    for (const [tls, encrypted] of [
      ['', false],
      ['false', false],
      ['skip-verify', true],
      ['preferred', true],
    ] as const) {
      test(`caching_sha2_password, tls=${tls}: the first login and later ones`, async (t) => {
        const dsn = (await account(t))(tls);
        for (let login = 1; login <= 2; login += 1) {
          const source = await openSource(t, dsn, 1);
          const [[cipher] = []] = await rowsOf(source, CIPHER);
          assert.equal(cipher !== '', encrypted, `login ${login}: ${cipher}`);
          await source.close();
        }
        const results = await openResults(t, dsn);
        assert.equal((await results.write(numbers(3), writeOptions('a'))).rows, 3);
      });
    }

    test('a certificate that nobody has signed, and an account that demands TLS', async (t) => {
      const dsn = await account(t, 'REQUIRE SSL');
      const strict = await openSource(t, dsn('true'), 1);
      // Also where the driver has a code of its own for it; and it is no server that cannot be reached.
      await assert.rejects(strict.ping(never()), (error) => {
        assert.ok(error instanceof DatabaseError);
        assert.match(error.message, /^db "app": TLS: its certificate is not signed by an authority .*_CERT/);
        assert.equal(error.refused, true);
        return true;
      });
      const plain = await openSource(t, dsn(''), 1);
      await assert.rejects(plain.ping(never()), /Access denied/);
      const encrypted = await openSource(t, dsn('skip-verify'), 1);
      assert.deepEqual(await rowsOf(encrypted, 'SELECT 1'), [[1n]]);
    });
  });
}
