/** The only place where names become part of SQL text. */

/** An identifier, quoted: any name but an empty one or one with a NUL, which MySQL cannot hold. */
export function quoteName(name: string): string {
  if (name === '') throw new TypeError('a MySQL name cannot be empty');
  if (name.includes('\0')) throw new TypeError('a MySQL name cannot hold a NUL character');
  return `\`${name.replaceAll('`', '``')}\``;
}
