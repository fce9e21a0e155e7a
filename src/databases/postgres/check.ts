/**
 * What can be told of a statement before it runs, beyond that the server can parse it: that it is one that reads, and
 * that the role may read what it does. The server says so when a statement is planned and its plan is set up, which
 * EXPLAIN does without running anything. (A plan that writes or locks is one that EXPLAIN shows, read-only transaction
 * or not.)
 */
import { DatabaseError } from '../errors.ts';
import { positionAt, positionOf } from '../position.ts';
import type { Session } from './session.ts';
import { beginsAt, withoutEnd } from './statement.ts';

const READS = 'SELECT, VALUES, TABLE, WITH, SHOW and EXPLAIN';

/** Refuses a statement that does not begin as one that reads. */
export function checkKind(sql: string, database: string, from = 0): void {
  const at = beginsAt(sql, from);
  const word = /^\w+/.exec(sql.slice(at))?.[0]?.toUpperCase() ?? sql.charAt(at);
  // What is empty is for the server to refuse.
  if (['SELECT', 'VALUES', 'TABLE', 'WITH', 'SHOW', 'EXPLAIN', '(', ''].includes(word)) return;
  const message = `${database}: only statements that read are run (${READS}), not ${word}`;
  throw new DatabaseError('invalid_statement', message, { position: positionAt(sql, at) });
}

/** The statement has been prepared in the session's transaction, with so many parameters. */
export async function checkPlan(
  session: Session,
  sql: string,
  parameters: number,
  database: string,
): Promise<void> {
  const begin = beginsAt(sql);
  const explained = /^EXPLAIN\s*(\([^)]*\)|(?:(?:ANALYZE|ANALYSE|VERBOSE)\b\s*)*)/i.exec(sql.slice(begin));
  if (explained !== null && !/ANALY[SZ]E/i.test(explained[1] ?? '')) return;
  const from = begin + (explained?.[0].length ?? 0);
  checkKind(sql, database, from);
  const planned = withoutEnd(sql).slice(from);
  if (/^\s*(SHOW|EXPLAIN)\b/i.test(planned)) return;
  const nulls = parameters === 0 ? '' : `(${Array(parameters).fill('NULL').join(', ')})`;
  // A generic plan, for whatever arguments: with values, what they make impossible is not in the plan.
  const answers = await session.ask(
    [
      'SET LOCAL plan_cache_mode = force_generic_plan',
      `PREPARE ${NAME} AS ${planned}\n`,
      `EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE ${NAME}${nulls}`,
      `DEALLOCATE ${NAME}`,
    ].join('; '),
  );
  const fault = writeIn(JSON.parse(answers.flat().join('')));
  if (fault === null) return;
  throw new DatabaseError('invalid_statement', `${database}: ${fault.message}`, {
    position: positionOf(sql, fault.pattern),
  });
}

const NAME = 'dungbeetle_check';

interface Write {
  readonly message: string;
  /** What is to be looked for in the statement. */
  readonly pattern: RegExp;
}

/** The first node of a plan, as EXPLAIN has it in JSON, that writes or locks rows. */
function writeIn(plan: unknown): Write | null {
  if (typeof plan !== 'object' || plan === null) return null;
  const { 'Node Type': type, Operation: operation } = plan as Record<string, unknown>;
  if (type === 'LockRows') {
    return {
      message: 'the statement locks rows (FOR UPDATE, FOR SHARE), which is no read',
      pattern: /\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)\b/gi,
    };
  }
  if (type === 'ModifyTable') {
    const word = String(operation ?? 'write').toUpperCase();
    return { message: `the statement writes (${word})`, pattern: new RegExp(`\\b${word}\\b`, 'gi') };
  }
  for (const part of Object.values(plan)) {
    const found = writeIn(part);
    if (found !== null) return found;
  }
  return null;
}
