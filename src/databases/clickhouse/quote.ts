/** The only place where names and values become part of SQL text for ClickHouse. */

const SPECIAL = /[\0\b\f\n\r\t\\'`]/g;
const ESCAPES: Readonly<Record<string, string>> = {
  '\0': '\\0',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\\': '\\\\',
  "'": "\\'",
  '`': '\\`',
};

function escaped(text: string): string {
  // Half a surrogate pair would be sent as U+FFFD: another value than the one that was given.
  if (!text.isWellFormed()) throw new TypeError('text for ClickHouse must be well-formed Unicode');
  return text.replace(SPECIAL, (found) => ESCAPES[found] ?? found);
}

/** A string literal. ClickHouse has one syntax for it, in every version and whatever the settings. */
export function quoteLiteral(text: string): string {
  return `'${escaped(text)}'`;
}

/** An identifier of one part: any name but the empty one, which ClickHouse has no syntax for. */
export function quoteName(name: string): string {
  if (name === '') throw new TypeError('a ClickHouse name cannot be empty');
  return `\`${escaped(name)}\``;
}
