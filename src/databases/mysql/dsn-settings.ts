/** System variables of a DSN as SET takes them. */
import type { MysqlConfig } from './dsn.ts';
import { quoteName, quoteText } from './quote.ts';

export function assignments(settings: MysqlConfig['settings']): readonly string[] {
  return Object.entries(settings).map(([name, value]) => `${quoteName(name)} = ${settingOf(value)}`);
}

/** The Go driver wants strings quoted; clients of other kinds do not. */
function settingOf(text: string): string {
  if (/^-?\d+(?:\.\d+)?$/.test(text)) return text;
  const quoted = /^'((?:[^'\\]|''|\\.)*)'$|^"((?:[^"\\]|""|\\.)*)"$/s.exec(text);
  const [, single, double] = quoted ?? [];
  if (single !== undefined) return quoteText(single.replaceAll(/''|\\(.)/gs, (_, escaped = "'") => escaped));
  if (double !== undefined) return quoteText(double.replaceAll(/""|\\(.)/gs, (_, escaped = '"') => escaped));
  return quoteText(text);
}
