/** Whoever answers at a database's address may say anything: it is told, and steers no terminal. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { openClickhouseSource } from '../../src/databases/clickhouse/source.ts';
import { DatabaseError } from '../../src/databases/errors.ts';
import { openMysqlSource } from '../../src/databases/mysql/source.ts';
import { openPostgresSource } from '../../src/databases/postgres/source.ts';
import { openRedisStore } from '../../src/queue/stores/redis.ts';
import { createLogger } from '../../src/util/log.ts';
import { never } from './support.ts';

/** Colours, a bell, the title of the window, a C1 control, an order of text that hides its end. */
const SPELL = '\u001b[31mHello\u0007\u001b]0;title\u0007\u009b2J\u202etxt.exe';
const STEERING = /[^\P{Cc}\n\t]|\p{Bidi_Control}/u;
const GARBAGE = Buffer.from(Array.from({ length: 1_024 }, (_, index) => (index * 7) & 0xff));

/** A server that answers so to whatever it is told, or before that; its port. */
async function stranger(t: TestContext, answer: Buffer, first: boolean): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    if (first) socket.end(answer);
    else socket.once('data', () => socket.end(answer));
  });
  t.after(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return (server.address() as AddressInfo).port;
}

function mysqlError(message: string): Buffer {
  const payload = Buffer.concat([Buffer.from([0xff, 0x6a, 0x04]), Buffer.from(message)]);
  return Buffer.concat([Buffer.from([payload.length, 0, 0, 0]), payload]);
}

function postgresError(message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0C3D000\0M${message}\0\0`);
  const head = Buffer.from('E\0\0\0\0');
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}

function httpError(message: string): Buffer {
  const body = Buffer.from(`Code: 81. DB::Exception: ${message}`);
  return Buffer.concat([
    Buffer.from(
      `HTTP/1.1 500 Internal\r\nX-ClickHouse-Exception-Code: 81\r\nContent-Length: ${body.length}\r\n\r\n`,
    ),
    body,
  ]);
}

const pools = { name: 'app', max_active: 1, max_idle: 1, connect_timeout_ms: 1_000 };
const SOURCES = {
  mysql: (port: number) => openMysqlSource({ ...pools, dsn: `mysql://u:p@127.0.0.1:${port}/d?tls=false` }),
  postgres: (port: number) =>
    openPostgresSource({ ...pools, dsn: `postgres://u:p@127.0.0.1:${port}/d?sslmode=disable` }),
  clickhouse: (port: number) => openClickhouseSource({ ...pools, dsn: `http://u:p@127.0.0.1:${port}/d` }),
} as const;

const ERRORS = { mysql: mysqlError, postgres: postgresError, clickhouse: httpError } as const;

for (const engine of ['mysql', 'postgres', 'clickhouse'] as const) {
  test(`${engine}: what a stranger says`, async (t) => {
    const first = engine === 'mysql';
    for (const answer of [
      ERRORS[engine](SPELL),
      ERRORS[engine]('x'.repeat(200)),
      GARBAGE,
      Buffer.from(`SSH-2.0-${SPELL}\r\n`),
    ]) {
      const source = await SOURCES[engine](await stranger(t, answer, first));
      const error = await source.ping(never()).then(
        () => null,
        (failure: unknown) => failure,
      );
      await source.close();
      assert.ok(error instanceof DatabaseError, String(error));
      assert.doesNotMatch(error.message, STEERING);
      const lines: string[] = [];
      const logger = createLogger({ level: 'info', destination: { write: (line) => void lines.push(line) } });
      logger.error({ err: error }, 'it failed');
      assert.doesNotMatch(lines.join(''), STEERING);
    }
  });
}

test('redis: what a stranger says', async (t) => {
  for (const answer of [Buffer.from(`-ERR ${SPELL}\r\n`), GARBAGE]) {
    const port = await stranger(t, answer, false);
    const opening = openRedisStore({ addresses: [`127.0.0.1:${port}`], connect_timeout_ms: 1_000 });
    await assert.rejects(opening, (error: Error) => {
      assert.doesNotMatch(error.message, STEERING);
      return true;
    });
  }
});
