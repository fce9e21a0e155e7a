/** What a server warned of while a statement ran: counted, and an error where it gave less than was asked for. */
import { hidden } from './failure.ts';

export interface Warnings {
  /** How many there were. The server counts more than it keeps (its max_error_count), up to 65,535. */
  readonly count: number;
  readonly kept: readonly Warning[];
}

interface Warning {
  readonly code: number;
  readonly message: string;
  /** Nothing to be warned of: an explanation. */
  readonly note: boolean;
}

/** Right behind the statement, in its session. */
export const SHOW_WARNINGS = 'SHOW WARNINGS';

export function readWarnings(count: number, rows: readonly (readonly (string | null)[])[]): Warnings {
  const kept = rows.map(([level, code, message]) => ({
    code: Number(code),
    message: message ?? '',
    note: level === 'Note',
  }));
  return { count, kept };
}

/**
 * A value was cut, put in the place of another, or lost for a limit of the server's; or rows are missing (1931).
 * All else (a division by zero that gave NULL, a text that was compared as a number) is the query's own meaning.
 */
const CUT: ReadonlySet<number> = new Set([1260, 1264, 1265, 1300, 1301, 1366, 1406, 1916, 1931]);

/** What may be cut where it cannot be seen. */
const MAY_CUT = /\b(?:GROUP_CONCAT|JSON_(?:ARRAY|OBJECT)AGG|ROWS\s+EXAMINED)\b/i;

/** Why a result is not what was asked for; null if nothing says so. */
export function cutBy(warnings: Warnings, sql: string, args: readonly unknown[]): string | null {
  const { count, kept } = warnings;
  const cut = kept.find(({ code }) => CUT.has(code));
  if (cut !== undefined) {
    return `the server did not give all of the result: ${textOf(cut, args)}${adviceOn(cut.code)}; "-- allow_cut: 1" in the task takes it as it is`;
  }
  if (count <= kept.length || !MAY_CUT.test(sql)) return null;
  return `the server warned ${count} times and tells of ${kept.length}, so that nobody knows whether it has cut a value: avoid the warnings (${summary(warnings, args)[0]}), or take the result as it is with "-- allow_cut: 1" in the task`;
}

function adviceOn(code: number): string {
  if (code === 1260) return '; group_concat_max_len=1000000 in the DSN raises the limit';
  return code === 1301 ? '; max_allowed_packet of the server is the limit' : '';
}

/** One text for each kind of warning. */
export function summary({ count, kept }: Warnings, args: readonly unknown[]): readonly string[] {
  const kinds = Map.groupBy(
    kept.filter(({ note }) => !note),
    ({ code }) => code,
  );
  const texts = [...kinds.values()].flatMap((alike) => {
    const [first] = alike;
    return first === undefined ? [] : [`the server warned ${times(alike.length)}: ${textOf(first, args)}`];
  });
  const unknown = count - kept.length;
  return unknown > 0
    ? [...texts, `the server warned ${times(unknown)} more and does not tell of what`]
    : texts;
}

function textOf({ code, message }: Warning, args: readonly unknown[]): string {
  return `${hidden(code, message, args)} (warning ${code})`;
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
