/** Texts as Redis keeps them: UTF-8, which has no room for half a surrogate pair. JSON escapes those. */

/** One with halves is kept as JSON behind a NUL; so is one that begins with a NUL by itself. */
export function toText(text: string): string {
  return text.isWellFormed() && !text.startsWith('\0') ? text : `\0${JSON.stringify(text)}`;
}

export function fromText(text: string): string {
  return text.startsWith('\0') ? JSON.parse(text.slice(1)) : text;
}
