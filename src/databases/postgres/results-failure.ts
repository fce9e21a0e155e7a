/** What Postgres says against a result table, in words about the report's rows and columns. */
import type { ResultColumn } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { failureOf, sqlState } from './failure.ts';

export function writeFailure(
  error: unknown,
  database: string,
  columns: readonly ResultColumn[],
): DatabaseError {
  if (error instanceof DatabaseError) return error;
  const state = sqlState(error);
  const failure = failureOf(error, database, 'write');
  const again = (message: string, code = failure.code, transient = failure.transient) =>
    new DatabaseError(code, message, { transient });
  switch (state) {
    case '54000': // program_limit_exceeded
      return again(
        `${failure.message}: a row must fit into 8 kB, where long texts count 18 bytes; ask for fewer columns`,
      );
    case '2BP01': // dependent_objects_still_exist
      return again(
        `${database}: a view or another object depends on the result table, so it cannot be replaced or dropped`,
        'table_conflict',
        false,
      );
    case '42710': // duplicate_object: a type of the table's name
      return again(failure.message, 'table_conflict', false);
  }
  // Data and limits, not a server that shuts down meanwhile.
  const place = /^(22|23|42|54)/.test(state ?? '') ? placeOf(error, columns) : '';
  if (place === '') return failure;
  const rest = failure.message.slice(`${database}: `.length);
  const advice = state?.startsWith('22') === true ? '; cast or convert the value in the query' : '';
  return again(`${database}: ${place}: ${rest}${advice}`);
}

/** Row and column of an error in COPY, from its context: `COPY name, line 3, column amount: "1e"`. */
function placeOf(error: unknown, columns: readonly ResultColumn[]): string {
  const where = error instanceof Error && 'where' in error ? error.where : undefined;
  if (typeof where !== 'string') return '';
  // The last one: an error in JSON says first what it read of it.
  const [, line, rest = ''] =
    [...where.matchAll(/^COPY .*?, line (\d+)(?:, column (.*(?:\n(?!COPY ).*)*))?/gm)].at(-1) ?? [];
  if (line === undefined) return '';
  // A name may hold anything, so it is looked for, the longest first; the value behind it is not repeated.
  const name = columns
    .map((column) => column.name)
    .filter((candidate) => rest === candidate || rest.startsWith(`${candidate}:`))
    .sort((one, other) => other.length - one.length)[0];
  return name === undefined ? `row ${line}` : `row ${line}, column "${name}"`;
}
