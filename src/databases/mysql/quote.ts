/** The only place where names and values become part of SQL text for MySQL and MariaDB. */

/** An identifier, quoted: any name but an empty one or one with a NUL, which MySQL cannot hold. */
export function quoteName(name: string): string {
  if (name === '') throw new TypeError('a MySQL name cannot be empty');
  if (name.includes('\0')) throw new TypeError('a MySQL name cannot hold a NUL character');
  return `\`${name.replaceAll('`', '``')}\``;
}

/** A string constant. Written in hexadecimal, it reads the same under every `sql_mode`. */
export function quoteText(text: string): string {
  return `_utf8mb4 X'${Buffer.from(text).toString('hex')}'`;
}
