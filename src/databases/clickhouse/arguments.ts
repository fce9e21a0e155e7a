/**
 * Arguments as literals. ClickHouse has no bound parameters without a type, so each argument is written into the query,
 * quoted by the one helper there is, in the first of its forms that the server takes in its place: text that looks like
 * a number as text, and where the server wants a number there (`UInt64 = String` is an error on old ones, LIMIT '5' on
 * all) as that number. The form is found with statements that run nothing.
 */
import type { Argument } from '../database.ts';
import { DatabaseError, wrongCount } from '../errors.ts';
import { quoteLiteral } from './quote.ts';
import type { Statement } from './statement.ts';

const WHOLE = /^[+-]?\d+$/;
const NUMBER = /^([+-]?)(\d+)(?:\.(\d+))?(?:[eE][+-]?\d+)?$/;
const LEAST_INT64 = -(2n ** 63n);
const MOST_UINT64 = 2n ** 64n - 1n;
const MOST_DECIMAL_DIGITS = 38;
/** How many combinations of forms are tried where the places cannot be told apart one by one. */
const MOST_TRIES = 64;

/** The literals each argument may stand as, best first. Throws a permanent `invalid_arguments`. */
export function literalForms(
  args: readonly Argument[],
  { placeholders }: Statement,
  database: string,
): readonly (readonly string[])[] {
  const refuse = (message: string): never => {
    throw new DatabaseError('invalid_arguments', `${database}: ${message}`);
  };
  if (args.length !== placeholders.length) {
    refuse(wrongCount(args.length, placeholders.length));
  }
  return args.map((arg, index) => {
    const number_only = placeholders[index]?.number_only === true;
    if (typeof arg === 'number' && !Number.isFinite(arg))
      refuse(`argument ${index + 1} is not a finite number`);
    if (typeof arg === 'string' && !arg.isWellFormed()) {
      refuse(`argument ${index + 1} is not well-formed Unicode`);
    }
    const forms = formsOf(arg);
    if (!number_only) return forms;
    const numbers = forms.filter((form) => /^\d/.test(form));
    return numbers.length > 0
      ? numbers
      : refuse(`argument ${index + 1} must be a number: it stands behind LIMIT, OFFSET, TOP or SAMPLE`);
  });
}

function formsOf(arg: Argument): readonly string[] {
  switch (typeof arg) {
    case 'boolean':
      return [arg ? '1' : '0'];
    case 'number': {
      if (Object.is(arg, -0)) return ['-0.0', '0', quoteLiteral('-0.0')];
      const [text = '', ...numbers] = formsOf(String(arg));
      return numbers.length === 0 ? [text] : [...numbers, text];
    }
    case 'string': {
      const [, sign, whole = '', fraction = ''] = NUMBER.exec(arg) ?? [];
      const quoted = quoteLiteral(arg);
      if (sign === undefined) return [quoted];
      const decimal = `toDecimal128(${quoted}, ${fraction.length})`;
      const exact = !/e/i.test(arg) && whole.length + fraction.length <= MOST_DECIMAL_DIGITS;
      if (!WHOLE.test(arg)) {
        // With a point a literal is a float, which is not the same number, nor comparable with a decimal.
        const literal = String(Number(arg));
        return Number.isFinite(Number(arg)) ? [quoted, ...(exact ? [decimal] : []), literal] : [quoted];
      }
      const integer = BigInt(arg);
      if (integer >= LEAST_INT64 && integer <= MOST_UINT64) return [quoted, integer.toString()];
      return exact ? [quoted, decimal] : [quoted];
    }
    case 'object':
      return ['NULL'];
  }
}

/** The literals of a choice: the number of a form for each argument. */
export function literalsOf(
  forms: readonly (readonly string[])[],
  choice: readonly number[],
): readonly string[] {
  return forms.map((choices, index) => choices[choice[index] ?? 0] ?? '');
}

/**
 * Finds a choice of forms that the server takes; `takes` says whether it does. Null: there is none, or it was not found.
 */
export async function chooseForms(
  forms: readonly (readonly string[])[],
  takes: (literals: readonly string[]) => Promise<boolean>,
): Promise<readonly number[] | null> {
  const first = forms.map(() => 0);
  const fits = (choice: readonly number[]) => takes(literalsOf(forms, choice));
  if (await fits(first)) return first;
  const open = forms.flatMap((choices, index) => (choices.length > 1 ? [index] : []));

  // One place after the other, the others NULL, which most places take.
  const chosen = [...first];
  for (const index of open) {
    for (const [form, literal] of (forms[index] ?? []).entries()) {
      const others = forms.map((choices) => (choices.length > 1 ? 'NULL' : (choices[0] ?? '')));
      if (!(await takes(others.with(index, literal)))) continue;
      chosen[index] = form;
      break;
    }
  }
  if (await fits(chosen)) return chosen;

  // All combinations, as far as that goes.
  const choice = [...first];
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const next = open.find((index) => (choice[index] ?? 0) + 1 < (forms[index]?.length ?? 0));
    if (next === undefined) break;
    choice[next] = (choice[next] ?? 0) + 1;
    for (const index of open) {
      if (index === next) break;
      choice[index] = 0;
    }
    if (await fits(choice)) return choice;
  }
  return null;
}

/**
 * A column's name with `?` in the places of arguments: an expression without a name of its own is called by its text,
 * arguments and all, and those are nobody's but the job's.
 */
export function withoutValues(name: string, args: readonly Argument[]): string {
  // A column, or an alias: people have called it that.
  if (/^[\w ]*$/.test(name)) return name;
  const texts = args
    .filter((arg) => arg !== null && arg !== '')
    .flatMap((arg) => (typeof arg === 'string' ? [quoteLiteral(arg), arg] : [String(arg)]))
    // The longer first: one may be a part of another.
    .toSorted((one, other) => other.length - one.length);
  return texts.reduce((shown, text) => {
    const inner = text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    // A bare word or number is one only by itself.
    const pattern = /^\w|^-\d/.test(text) ? `(?<![\\w.])${inner}(?![\\w.])` : inner;
    return shown.replaceAll(new RegExp(pattern, 'g'), '?');
  }, name);
}
