import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger, errorLine, type LogOptions } from '../../src/util/log.ts';

function logged(level: LogOptions['level'], write: (logger: ReturnType<typeof createLogger>) => void) {
  const lines: string[] = [];
  write(createLogger({ level, destination: { write: (line) => lines.push(line) } }));
  return lines.map((line): Record<string, unknown> => JSON.parse(line));
}

test('a line has time, level, message and what it is about', () => {
  const [line, ...more] = logged('info', (logger) => {
    logger.debug('not this one');
    logger.info({ job_id: 'j', attempt: 1, task: 't' }, 'job started');
  });
  assert.deepEqual(more, []);
  assert.match(String(line?.['time']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const { level, msg, job_id, attempt, task } = line ?? {};
  assert.deepEqual(
    { level, msg, job_id, attempt, task },
    {
      level: 'info',
      msg: 'job started',
      job_id: 'j',
      attempt: 1,
      task: 't',
    },
  );
});

test('secrets are redacted, as deep as a configuration has them', () => {
  const secret = 'postgres://user:S3CRET@host/db';
  const lines = logged('info', (logger) => {
    logger.info({ dsn: secret, password: secret });
    logger.info({ ledger: { type: 'postgres', dsn: secret } });
    logger.info({ config: { db: { ledger: { dsn: secret } } }, headers: { authorization: secret } });
    logger.info({ databases: [{ name: 'ledger' }, { name: 'app', dsn: secret }], err: new Error('x') });
    logger.child({ db: { ledger: { dsn: secret } } }).info('child');
    logger.child({ job_id: 'j' }).child({ dsn: secret }).info('child of a child');
  });
  assert.equal(lines.length, 6);
  assert.deepEqual(lines[3]?.['databases'], [{ name: 'ledger' }, { name: 'app', dsn: '[redacted]' }]);
  for (const line of lines) {
    assert.ok(!JSON.stringify(line).includes('S3CRET'));
    assert.ok(JSON.stringify(line).includes('[redacted]'));
  }
});

test('an error is logged with its causes, and nothing else that it carries', () => {
  const cause = Object.assign(new Error('disk full'), { code: 'ENOSPC' });
  const error = Object.assign(new TypeError('cannot write', { cause }), {
    query: 'SELECT S3CRET',
    args: ['S3CRET'],
  });
  const [line] = logged('error', (logger) => logger.error({ err: error }, 'failed'));
  assert.ok(!JSON.stringify(line).includes('S3CRET'));
  assert.deepEqual(line?.['err'], {
    name: 'TypeError',
    message: 'cannot write',
    stack: error.stack,
    cause: { name: 'Error', message: 'disk full', code: 'ENOSPC', stack: cause.stack },
  });
});

test('errors that cause each other come to an end; what is no error is shown as text', () => {
  const one = new Error('one');
  one.cause = new AggregateError([one, 'text'], 'many');
  const line = errorLine(one);
  assert.equal(line.cause?.errors?.[0]?.message, 'one');
  assert.deepEqual(line.cause?.errors?.[1], { name: 'string', message: 'text' });
  assert.ok(JSON.stringify(line).length < 100_000);
});
