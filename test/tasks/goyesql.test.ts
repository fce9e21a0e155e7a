/** What goyesql reads, we read: the same tasks, tags and queries, or an error from both. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TaskError } from '../../src/tasks/errors.ts';
import { parseTasks } from '../../src/tasks/parser.ts';
import type { Task } from '../../src/tasks/task.ts';

interface Query {
  sql: string;
  readonly tags: Map<string, string>;
  /** Whether one of its tags came after the first line of the query. */
  late: boolean;
}

/** goyesql v2's scanner.go and parser_line.go, with Go's \s and dot; null: an error. */
function goyesql(text: string): Map<string, Query> | null {
  const queries = new Map<string, Query>();
  let name = '';
  for (const raw of text.split('\n')) {
    // bufio.ScanLines drops one CR, parseLine trims blanks only.
    const line = raw.replace(/\r$/, '').replace(/^ +| +$/g, '');
    const tag = /^[\t\f\r ]*--[\t\f\r ]*([^\n]+)[\t\f\r ]*:[\t\f\r ]*([^\n]+)/.exec(line);
    if (line === '') continue;
    if (tag !== null) {
      const [, key = '', value = ''] = tag;
      if (key === 'name') {
        name = value;
        if (queries.has(name)) return null;
        queries.set(name, { sql: '', tags: new Map(), late: false });
      } else {
        const query = queries.get(name);
        if (query === undefined || query.tags.has(key)) return null;
        query.tags.set(key, value);
        query.late ||= query.sql !== '';
      }
    } else if (!/^[\t\f\r ]*--/.test(line)) {
      const query = queries.get(name);
      if (name === '' || query === undefined) return null;
      query.sql += query.sql === '' ? line : ` ${line}`;
    }
  }
  return [...queries.values()].some(({ sql }) => sql === '') ? null : queries;
}

function ours(text: string): readonly Task[] | null {
  try {
    return parseTasks(text, 'f');
  } catch (error) {
    if (error instanceof TaskError) return null;
    throw error;
  }
}

/** A query of ours as goyesql has it: lines trimmed and joined, without comment lines. */
function joined(sql: string): string {
  return sql
    .split('\n')
    .map((line) => line.replace(/\r$/, '').replace(/^ +| +$/g, ''))
    .filter((line) => line !== '' && !line.startsWith('--'))
    .join(' ');
}

/** What the original makes of the tags. */
function tagsOf({ tags }: Query) {
  const list = (value: string | undefined) => value?.split(',').map((name) => name.trim()) ?? null;
  const conc = tags.get('conc');
  return {
    db: list(tags.get('db')),
    results: list(tags.get('results')),
    queue: tags.get('queue') ?? null,
    raw: tags.has('raw'),
    concurrency: conc === undefined ? null : Number(conc),
  };
}

// What both understand in the same way: the differences are in docs/tasks.md, and in the corpus.
const line = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('a', 'b', 'c d', 'é/1').map((name) => `-- name: ${name}`) },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      '-- db: one',
      '-- db: one, two',
      '-- results: r1,r2',
      '-- queue: slow ones',
      '-- conc: 5',
      '-- raw: 1',
      '--queue:q',
    ),
  },
  {
    weight: 8,
    arbitrary: fc.constantFrom(
      'SELECT a,',
      "  'x' AS b, `c` ",
      "FROM t WHERE c = 'it''s; so' -- why",
      '  /* d: e */ 1',
      '$1 ;',
      'x\ty',
    ),
  },
  { weight: 3, arbitrary: fc.constantFrom('', '   ', '--', '-- a comment', "  -- don't", '--- x', '--note') },
);
const file = fc.tuple(fc.array(line, { maxLength: 14 }), fc.constantFrom('\n', '\r\n'), fc.boolean());

test('a file that goyesql reads gives the same here, one that it refuses is refused', () => {
  let same = 0;
  let refused = 0;
  fc.assert(
    fc.property(file, ([lines, end, named]) => {
      const text = [...(named ? ['-- name: first', 'SELECT 1'] : []), ...lines].join(end);
      const theirs = goyesql(text);
      const tasks = ours(text);
      // A tag in a query, which theirs takes for one, is refused here.
      if (theirs === null || [...theirs.values()].some(({ late }) => late)) {
        assert.equal(tasks, null);
        refused++;
        return;
      }
      assert.deepEqual(
        tasks?.map(({ name, sql, db, results, queue, raw, concurrency }) => [
          name,
          joined(sql),
          { db, results, queue, raw, concurrency },
        ]),
        [...theirs].map(([name, query]) => [name, query.sql, tagsOf(query)]),
      );
      same++;
    }),
    { numRuns: 3000 },
  );
  assert.ok(same > 200 && refused > 200, `both happened: ${same}, ${refused}`);
});
