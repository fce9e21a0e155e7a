import assert from 'node:assert/strict';
import { suite, test } from 'node:test';

import { checkDsn, clientConfig, describeDsn } from '../../../src/databases/clickhouse/dsn.ts';
import { openSource } from '../../../src/databases/open.ts';

suite('the DSN of a ClickHouse', () => {
  test('both forms of the Go driver mean the same', () => {
    const wanted = {
      host: 'ch.example',
      port: 8123,
      tls: false,
      skip_verify: false,
      user: 'report',
      password: 's3cr:t@/#?',
      database: 'sales',
      settings: { max_threads: '4' },
    };
    const password = encodeURIComponent(wanted.password);
    for (const dsn of [
      `clickhouse://report:${password}@ch.example:9000/sales?max_threads=4&dial_timeout=200ms&compress=lz4`,
      `clickhouse://report:${password}@ch.example/sales?max_threads=4`,
      `tcp://ch.example:9000?username=report&password=${password}&database=sales&max_threads=4&debug=true&read_timeout=10`,
      `http://report:${password}@ch.example:8123/sales?max_threads=4`,
      `http://report:${password}@ch.example:9000/sales?max_threads=4&http_port=8123`,
      `jdbc:ch:http://report:${password}@ch.example:8123/sales?max_threads=4&socket_timeout=1000`,
      `jdbc:clickhouse://ch.example:8123/sales?user=report&password=${password}&max_threads=4&ssl=false`,
      `clickhouse+native://report:${password}@ch.example:9000/sales?max_threads=4`,
    ]) {
      const { native_port: _, ...config } = clientConfig(dsn);
      assert.deepEqual(config, wanted, dsn);
    }
  });

  test('ports of the native protocol stand for those of HTTP', () => {
    const ports: readonly (readonly [string, number, boolean])[] = [
      ['clickhouse://h', 8123, false],
      ['clickhouse://h?secure=true', 8443, true],
      ['clickhouse://h:9000', 8123, false],
      ['clickhouse://h:9440?secure=1', 8443, true],
      ['clickhouse://h:9440', 8443, true],
      ['https://h', 8443, true],
      ['https://h:443', 443, true],
      ['http://h:18123', 18123, false],
      ['clickhouse://h:9001?http_port=8200', 8200, false],
      ['clickhouse://[::1]:9000', 8123, false],
    ];
    for (const [dsn, port, tls] of ports) {
      const config = clientConfig(dsn);
      assert.deepEqual([config.port, config.tls], [port, tls], dsn);
    }
  });

  test('who cannot be reached there hears of both ports', async (t) => {
    for (const [dsn, address] of [
      [
        'clickhouse://127.0.0.77:9000/d',
        /ECONNREFUSED .*:8123 \(HTTP is spoken here: port 8123 stands for 9000 /,
      ],
      [
        'clickhouse://127.0.0.77:9440/d',
        /ECONNREFUSED .*:8443 \(HTTP is spoken here: port 8443 stands for 9440 /,
      ],
      ['clickhouse://127.0.0.77:9000/d?http_port=8123', /ECONNREFUSED [^ ]*:8123$/],
      ['clickhouse://127.0.0.77/d', /ECONNREFUSED [^ ]*:8123$/],
    ] as const) {
      const common = { max_active: 1, max_idle: 1, connect_timeout_ms: 10_000 };
      const source = await openSource({ type: 'clickhouse', name: 'x', dsn, ...common });
      t.after(() => source.close());
      await assert.rejects(
        source.ping(AbortSignal.timeout(60_000)),
        { code: 'unavailable', message: address },
        dsn,
      );
    }
  });

  test('what is said of it holds no login', () => {
    assert.equal(describeDsn('clickhouse://u:hunter2@[::1]:9000/db?password=hunter3'), '[::1]:8123/db');
  });

  test('what is wrong is said without a value of it', () => {
    const wrong: readonly (readonly [string, RegExp])[] = [
      ['hunter2', /not a clickhouse:\/\//],
      ['mysql://u:hunter2@h/db', /not a clickhouse:\/\//],
      ['clickhouse://u:hunter2@h:99999/db', /port/],
      [
        'https://u:hunter2@h/db?sslrootcert=hunter2.pem',
        /"sslrootcert" is not supported: .*NODE_EXTRA_CA_CERTS/,
      ],
      ['clickhouse://u:hunter2@h:x/db', /port/],
      ['clickhouse://u:hun/ter2@h/db', /%2F/],
      ['clickhouse://u:hun#ter2@h/db', /%23/],
      ['clickhouse://u:hunter2%@h/db', /%25/],
      ['clickhouse://u:hunter2@a,b/db', /several hosts/],
      ['clickhouse://u:hunter2@h/db?alt_hosts=hunter2', /"alt_hosts" is not supported/],
      ['clickhouse://u:hunter2@h/db?readonly=0', /"readonly" is not supported/],
      ['clickhouse://u:hunter2@h/db?format_tsv_null_representation=hunter2', /is not supported/],
      ['clickhouse://u:hunter2@h/db?timeout_overflow_mode=break', /is not supported/],
      ['clickhouse://u:hunter2@h/db?=hunter2', /name=value/],
      ['clickhouse://u:hunter2@h/db?secure=hunter2', /secure is neither/],
      ['clickhouse://u%3Ahunter2:x@h/db', /user name/],
    ];
    for (const [dsn, reason] of wrong) {
      const message = checkDsn(dsn);
      assert.match(message ?? '', reason, dsn);
      assert.doesNotMatch(message ?? '', /hunter|ter2/, dsn);
    }
    assert.equal(checkDsn('clickhouse://u:hunter2@h/db'), null);
  });
});
