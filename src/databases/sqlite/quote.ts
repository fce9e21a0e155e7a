/** The only place where names and paths become part of SQL text or of a URI. */
import { resolve } from 'node:path';

/** An identifier, quoted: any name but one with a NUL, which SQLite cannot hold. */
export function quoteName(name: string): string {
  if (name === '') throw new TypeError('a SQLite name cannot be empty');
  if (name.includes('\0')) throw new TypeError('a SQLite name cannot hold a NUL character');
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * A `file:` URI of a database file, which is the only way to say `mode=ro` for one database of a
 * connection and not for those it attaches. Everything that means something in a URI is escaped.
 */
export function fileUri(path: string, parameters: Readonly<Record<string, string>>): string {
  const escaped = resolve(path)
    .split('/')
    .map((part) => encodeURIComponent(part))
    .join('/');
  return `file:${escaped}?${new URLSearchParams(parameters)}`;
}
