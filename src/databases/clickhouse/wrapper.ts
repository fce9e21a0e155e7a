/**
 * The query as it is sent: a SELECT around the task's own, which prints each column in the form of copy-text and ends
 * with a mark that no value can hold.
 *
 * The mark is the proof that an answer is whole. ClickHouse answers 200 and then appends an error's text to the rows,
 * and that is the good case: where a query is killed, or its server is told to stop, versions of 2018 end the answer
 * properly after some of the rows, footers of formats and totals included.
 *
 * - Since 21.1 the mark is the `result_after_delimiter` of the format CustomSeparated, otherwise the same as
 *   TabSeparated: it is written when the pipeline has ended, and a killed one has not.
 * - Before, it is a row: the one that a FULL JOIN adds for the right side when the left side has come to its end.
 *   A kill may still cut the left side short without a word, and the row then comes all the same; but the server looks
 *   for a kill each time before it reads on after a block, so behind that row it then reports the error. A mark with
 *   nothing behind it was therefore preceded by all rows.
 *
 * Rows keep their order: the SELECT around does nothing but compute from row to row, in the streams in which they come.
 */
import type { Column } from '../database.ts';
import { CutShort } from './failure.ts';
import { quoteName } from './quote.ts';
import type { Server } from './server.ts';
import { type Printed, printed } from './types.ts';

/** A query ready to be sent, and how to know the end of its answer. */
export interface Wrapped {
  readonly sql: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly ending: Ending;
}

export interface Ending {
  /** In the answer once, at the beginning of a line. */
  readonly mark: string;
  /** Whether the mark is the first column of a last line, or the last bytes of all. */
  readonly line: boolean;
  /** The most bytes from the mark to the end. */
  readonly most_bytes: number;
}

/** `query`: a SELECT without FORMAT. `mark`: letters and digits that occur nowhere else. */
export function wrap(
  query: string,
  columns: readonly Printed[],
  mark: string,
  { old, join_use_nulls }: Pick<Server, 'old' | 'join_use_nulls'>,
): Wrapped {
  const prefix = unusedPrefix(columns.map(({ column }) => column.name));
  const reference = (index: number) => `${prefix}${index}`;
  // Renamed first, and computed from the new names then: in old versions an expression that reads like the name of a
  // column is that column.
  const renamed = columns.map(({ column }, index) => `${quoteName(column.name)} AS ${reference(index)}`);
  const inner = `SELECT ${renamed.join(', ')} FROM (${query}\n)`;
  if (!old) {
    const values = columns.map(({ expression }, index) => (expression ?? String)(reference(index)));
    return {
      sql: `SELECT ${values.join(', ')} FROM (${inner}) FORMAT CustomSeparated`,
      settings: customSeparated(mark),
      ending: { mark, line: false, most_bytes: mark.length },
    };
  }
  const at_end = `${prefix}end`;
  const value = (index: number) => `${prefix}v${index}`;
  const named = columns.map(
    ({ expression }, index) => `${(expression ?? String)(reference(index))} AS ${value(index)}`,
  );
  const [first, ...rest] = columns.map((_, index) => value(index));
  // toString cuts a FixedString at its first NUL.
  const text = columns[0]?.column.source_type.includes('FixedString') ? first : `toString(${first})`;
  const shown = [`if(${at_end}, '${mark}', ${text})`, ...rest].join(', ');
  // The server dies of our FULL JOIN where outer joins give NULL: that is for the joins inside of the query.
  const own = join_use_nulls ? `${inner} SETTINGS join_use_nulls = 1` : inner;
  const left = `SELECT toUInt8(0) AS ${at_end}, ${named.join(', ')} FROM (${own})`;
  const right = `SELECT toUInt8(1) AS ${at_end}`;
  return {
    sql: `SELECT ${shown} FROM (${left}) AS ${prefix}rows ANY FULL JOIN (${right}) AS ${prefix}mark USING ${at_end} FORMAT TabSeparated`,
    settings: { join_use_nulls: '0' },
    ending: {
      mark,
      line: true,
      most_bytes: mark.length + columns.reduce((sum, { default_bytes }) => sum + default_bytes + 1, 0),
    },
  };
}

/** TabSeparated, with a mark behind all of it. */
function customSeparated(mark: string): Readonly<Record<string, string>> {
  return {
    format_custom_escaping_rule: 'Escaped',
    format_custom_field_delimiter: '\t',
    format_custom_row_before_delimiter: '',
    format_custom_row_after_delimiter: '\n',
    format_custom_row_between_delimiter: '',
    format_custom_result_before_delimiter: '',
    format_custom_result_after_delimiter: mark,
  };
}

/** A statement that cannot be wrapped, and the settings to ask it with. Its answer has two lines of header. */
export function direct(
  query: string,
  mark: string,
  { old, settings }: Server,
): { readonly sql: string; readonly settings: Readonly<Record<string, string>> } {
  return old
    ? // In one thread a kill is always an error.
      { sql: `${query}\nFORMAT TabSeparatedWithNamesAndTypes`, settings: { ...settings, max_threads: '1' } }
    : {
        sql: `${query}\nFORMAT CustomSeparatedWithNamesAndTypes`,
        settings: { ...settings, ...customSeparated(mark) },
      };
}

/** The whole answer to `direct`. */
export function directAnswer(
  answer: Buffer,
  { old }: Server,
  { format_custom_result_after_delimiter: mark = '' }: Readonly<Record<string, string>>,
): { readonly columns: readonly Column[]; readonly rows: Buffer } {
  const end = answer.length - mark.length;
  if (answer.toString('latin1', end) !== mark) throw new CutShort();
  const names_end = answer.indexOf('\n');
  const types_end = answer.indexOf('\n', names_end + 1);
  if (names_end < 0 || types_end < 0) throw new CutShort();
  const names = answer.toString('utf8', 0, names_end);
  const types = answer.toString('utf8', names_end + 1, types_end);
  return { columns: plainColumns(names, types, old), rows: answer.subarray(types_end + 1, end) };
}

/** The columns of DESCRIBE's answer. */
export function describedColumns(answer: Buffer, old: boolean): readonly Printed[] {
  return answer
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name = '', type = ''] = line.split('\t').map(unescapeField);
      return printed(name, type, old);
    });
}

/** Of an answer that cannot be wrapped: of the simplest types, all else is text as it is printed. */
function plainColumns(names: string, types: string, old: boolean): readonly Column[] {
  const sourceTypes = types.split('\t').map(unescapeField);
  return names.split('\t').map((field, index) => {
    const { column } = printed(unescapeField(field), sourceTypes[index] ?? '', old);
    if (column.type === 'BIGINT' || column.type === 'DECIMAL') return column;
    return { name: column.name, source_type: column.source_type, type: 'TEXT' };
  });
}

const UNESCAPED: Readonly<Record<string, string>> = {
  '0': '\0',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

function unescapeField(field: string): string {
  return field.replace(/\\([\s\S])/g, (_, next: string) => UNESCAPED[next] ?? next);
}

/** Names in a query are seen in all of it: those made up here must not be those of a column. */
function unusedPrefix(names: readonly string[]): string {
  let prefix = 'dungbeetle_';
  while (names.some((name) => name.startsWith(prefix))) prefix += '_';
  return prefix;
}
