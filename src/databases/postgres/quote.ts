/** The only place where names and values become part of SQL text for Postgres. */

/** An identifier, quoted: any name but the empty one and one with a NUL, which Postgres cannot hold. */
export function quoteName(name: string): string {
  if (name === '') throw new TypeError('a Postgres name cannot be empty');
  if (name.includes('\0')) throw new TypeError('a Postgres name cannot hold a NUL character');
  return `"${name.replaceAll('"', '""')}"`;
}

/** A string constant. Reads the same whatever `standard_conforming_strings` is. */
export function quoteLiteral(text: string): string {
  if (text.includes('\0')) throw new TypeError('text for Postgres cannot hold a NUL character');
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}
