/** Takes a task's query apart: what kind it is, where its arguments go, what must not be sent along. */
import { DatabaseError } from '../errors.ts';
import { isCutting } from './cutting.ts';
import { rolesOf } from './placeholders.ts';
import { type Token, tokens } from './tokens.ts';

/** A query that may be run, cut at its placeholders. */
export interface Statement {
  /** `select`: it can stand in parentheses after FROM. `direct`: SHOW, DESCRIBE, EXISTS or EXPLAIN. */
  readonly kind: 'select' | 'direct';
  /** The text before, between and after the placeholders; one more than there are placeholders. */
  readonly pieces: readonly string[];
  /** Of each placeholder: whether ClickHouse's grammar takes nothing but a number there (LIMIT, SAMPLE, …). */
  readonly placeholders: readonly { readonly number_only: boolean }[];
}

const SELECTS = new Set(['SELECT', 'WITH', 'FROM']);
const OTHER_READS = new Set(['SHOW', 'DESCRIBE', 'DESC', 'EXISTS', 'EXPLAIN']);
const OPENING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** `database` is how messages name the database. Throws a permanent `invalid_statement` for what is no single read. */
export function parseStatement(sql: string, database: string): Statement {
  const refuse = (message: string): never => {
    throw new DatabaseError('invalid_statement', `${database}: ${message}`);
  };
  if (sql.includes('\0')) refuse('the statement holds a NUL character');
  if (!sql.isWellFormed()) refuse('the statement is not well-formed Unicode');
  const all = tokens(sql, refuse);
  const end = all.findIndex((token) => token.text === ';');
  if (end >= 0 && all.slice(end).some((token) => token.text !== ';')) refuse('it is more than one statement');
  const parts = end < 0 ? all : all.slice(0, end);
  const first = parts.find((token) => token.text !== '(');
  const verb = first?.kind === 'word' ? first.text.toUpperCase() : '';
  const kind = SELECTS.has(verb) ? 'select' : OTHER_READS.has(verb) ? 'direct' : null;
  if (kind === null) {
    return refuse(
      'the statement is not one that only reads: SELECT, WITH, SHOW, DESCRIBE, EXISTS or EXPLAIN',
    );
  }

  const closing: string[] = [];
  const cuts: { readonly start: number; readonly end: number; readonly number_only: boolean | null }[] = [];
  const roles = rolesOf(parts);
  /** How deep in parentheses the SETTINGS clause is that is being read. */
  let settings: number | null = null;
  for (const [index, token] of parts.entries()) {
    const { place, number_only } = roles[index] ?? { place: 'value', number_only: null };
    const word = token.kind === 'word' ? token.text.toUpperCase() : '';
    const next = parts[index + 1];
    const close = token.kind === 'mark' ? OPENING[token.text] : undefined;
    if (close !== undefined) closing.push(close);
    else if (/^[)\]}]$/.test(token.text) && closing.pop() !== token.text) {
      refuse('its parentheses do not match');
    }
    const foreign = place === 'value' ? foreignParameter(parts, index) : null;
    if (foreign !== null) {
      refuse(`"${foreign}" is no parameter here: a question mark stands in the place of each argument`);
    }
    if (number_only !== null) {
      cuts.push({ start: token.start, end: token.end, number_only });
      continue;
    }
    if (word === 'WITH' && next?.text.toUpperCase() === 'TOTALS') {
      refuse('WITH TOTALS gives a row that is none of the result; ask for it by UNION ALL, or WITH ROLLUP');
    }
    if (word === 'SETTINGS' && place === 'operator' && parts[index + 2]?.text === '=')
      settings = closing.length;
    else if (settings !== null && (closing.length < settings || word === 'FORMAT')) settings = null;
    const name = token.text.replaceAll(/^[`"]|[`"]$/g, '');
    if (settings !== null && isCutting(name) && next?.text === '=') {
      refuse(`the setting ${name} can cut a result short without an error; leave it out`);
    }
    if (closing.length === 0) {
      if (word === 'INTO' && next?.text.toUpperCase() === 'OUTFILE') {
        refuse('INTO OUTFILE writes a file on a client, and there is none; leave it out');
      }
      const after = parts[index + 2];
      if (
        word === 'FORMAT' &&
        next?.kind === 'word' &&
        place === 'operator' &&
        (after === undefined || after.text.toUpperCase() === 'SETTINGS')
      ) {
        // How an answer is written is between the source and the server; a task that says it means people.
        cuts.push({ start: token.start, end: next.end, number_only: null });
      }
    }
  }
  if (closing.length > 0) refuse('its parentheses do not match');

  const pieces = [''];
  let from = 0;
  for (const cut of cuts) {
    pieces[pieces.length - 1] += sql.slice(from, cut.start);
    if (cut.number_only !== null) pieces.push('');
    from = cut.end;
  }
  pieces[pieces.length - 1] += sql.slice(from, end < 0 ? sql.length : all[end]?.start);
  const placeholders = cuts.flatMap(({ number_only }) => (number_only === null ? [] : [{ number_only }]));
  return { kind, pieces, placeholders };
}

/** The query with literals in the places of its arguments. The blanks keep a minus from becoming a comment. */
export function render(statement: Statement, literals: readonly string[]): string {
  return statement.pieces.map((piece, index) => piece + padded(literals[index])).join('');
}

function padded(literal: string | undefined): string {
  return literal === undefined ? '' : ` ${literal} `;
}

/** What is a parameter elsewhere, and begins where a value is missing: $1, :id, @id, {id:UInt32}. */
function foreignParameter(parts: readonly Token[], index: number): string | null {
  const [mark, name, colon, type] = parts.slice(index, index + 4);
  if (mark?.kind !== 'mark' || name === undefined || name.start !== mark.end) return null;
  const is_cast = parts[index - 1]?.text === ':';
  if (/^[:@]$/.test(mark.text) && name.kind === 'word' && !is_cast) return mark.text + name.text;
  if (mark.text === '$' && name.kind === 'literal') return mark.text + name.text;
  const substituted =
    mark.text === '{' && name.kind === 'word' && colon?.text === ':' && type?.kind === 'word';
  return substituted ? `{${name.text}:${type.text}}` : null;
}
