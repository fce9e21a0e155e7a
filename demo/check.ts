/** The demo's own requests, with what must come back: each answer is compared with the ledger itself. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';

interface JobStatus {
  readonly job_id: string;
  readonly state: string;
  readonly count: number;
  readonly error: string;
  readonly result: { readonly table: string; readonly rows: number } | null;
}

export interface DemoFiles {
  readonly ledger: string;
  readonly results: string;
}

/** Throws at the first answer that is not right. */
export async function checkDemo(url: string, files: DemoFiles): Promise<void> {
  const ledger = new DatabaseSync(files.ledger, { readOnly: true });
  const run = randomUUID();

  async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(url + path, {
      method,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const envelope = (await response.json()) as { status: string; message?: string; data: T };
    assert.equal(response.status, 200, `${method} ${path}: ${envelope.message}`);
    assert.equal(envelope.status, 'success');
    return envelope.data;
  }

  async function finished(job_id: string): Promise<JobStatus> {
    for (;;) {
      const job = await request<JobStatus>('GET', `/jobs/${job_id}?wait=30s`);
      if (job.state !== 'PENDING' && job.state !== 'STARTED') return job;
    }
  }

  function tableIs(job: JobStatus, query: string, ...args: SQLInputValue[]): void {
    assert.equal(job.state, 'SUCCESS', job.error);
    assert.ok(job.result, 'a successful job shows its result table');
    const results = new DatabaseSync(files.results, { readOnly: true, timeout: 10_000 });
    try {
      const rows = results.prepare(`SELECT * FROM "${job.result.table}"`).all();
      assert.deepEqual(rows, ledger.prepare(query).all(...args));
      assert.equal(job.count, rows.length);
      assert.equal(job.result.rows, rows.length);
    } finally {
      results.close();
    }
  }

  function tableIsAbsent(job_id: string): void {
    const results = new DatabaseSync(files.results, { readOnly: true, timeout: 10_000 });
    try {
      const tables = results.prepare('SELECT name FROM sqlite_master WHERE name LIKE ?').all(`%${job_id}%`);
      assert.deepEqual(tables, []);
    } finally {
      results.close();
    }
  }

  const step = (what: string) => console.log(`ok: ${what}`);
  try {
    const summary = await request<{ job_id: string; task_name: string }>(
      'POST',
      '/tasks/get_profit_summary/jobs',
      { job_id: `summary-${run}`, args: ['USER1'] },
    );
    assert.equal(summary.task_name, 'get_profit_summary');
    tableIs(
      await finished(summary.job_id),
      'SELECT SUM(amount) AS total, entry_date FROM entries WHERE user_id = ? GROUP BY entry_date',
      'USER1',
    );
    step('get_profit_summary: the table holds the sums that the ledger gives');

    const group = await request<{ group_id: string; jobs: { job_id: string }[] }>('POST', '/groups', {
      group_id: `group-${run}`,
      concurrency: 1,
      jobs: [
        { job_id: `entries-${run}`, task: 'get_profit_entries', args: ['USER2'] },
        {
          job_id: `by-date-${run}`,
          task: 'get_profit_entries_by_date',
          args: ['USER3', '2017-01-01', '2018-01-01'],
        },
      ],
    });
    tableIs(await finished(`entries-${run}`), 'SELECT * FROM entries WHERE user_id = ?', 'USER2');
    tableIs(
      await finished(`by-date-${run}`),
      'SELECT * FROM entries WHERE user_id = ? AND timestamp > ? AND timestamp < ?',
      'USER3',
      '2017-01-01',
      '2018-01-01',
    );
    const joint = await request<{ state: string }>('GET', `/groups/${group.group_id}`);
    assert.equal(joint.state, 'SUCCESS');
    step('a group of two reports: both tables hold what the ledger gives');

    const all = await request<{ job_id: string }>('POST', '/tasks/get_all_entries/jobs', {
      job_id: `all-${run}`,
      ttl: 600,
    });
    const copied = await finished(all.job_id);
    assert.equal(copied.state, 'SUCCESS', copied.error);
    assert.equal(copied.count, ledger.prepare('SELECT count(*) AS count FROM entries').get()?.['count']);
    assert.equal(await request<boolean>('DELETE', `/jobs/${all.job_id}?purge=true`), true);
    tableIsAbsent(all.job_id);
    step(`get_all_entries: all ${copied.count} rows, and gone again when purged`);

    const slow = await request<{ job_id: string }>('POST', '/tasks/count_for_ever/jobs', {
      job_id: `slow-${run}`,
    });
    let job = await request<JobStatus>('GET', `/jobs/${slow.job_id}`);
    while (job.state === 'PENDING') job = await request<JobStatus>('GET', `/jobs/${slow.job_id}`);
    assert.equal(job.state, 'STARTED');
    assert.equal(await request<boolean>('DELETE', `/jobs/${slow.job_id}`), true);
    assert.equal((await finished(slow.job_id)).state, 'CANCELLED');
    tableIsAbsent(slow.job_id);
    step('count_for_ever: cancelled while it ran');

    const failing = await request<{ job_id: string }>('POST', '/tasks/fail_midway/jobs', {
      job_id: `failing-${run}`,
      retries: 3,
    });
    const failed = await finished(failing.job_id);
    assert.equal(failed.state, 'FAILURE');
    assert.match(failed.error, /malformed JSON/);
    assert.equal(failed.result, null);
    tableIsAbsent(failing.job_id);
    step('fail_midway: failed, said why, left no table');
  } finally {
    ledger.close();
  }
}
