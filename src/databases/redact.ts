/** Takes the values of arguments out of messages, which end up in logs and job records. */

/** From this length on a value is taken out wherever it stands: a shorter one would take letters out of plain words. */
const TELLING_LENGTH = 4;

/** `quotes`: the marks in which the engine quotes values; shorter ones go where they stand between them. */
export function redact(message: string, args: readonly unknown[], quotes: readonly string[]): string {
  let safe = message;
  for (const arg of args) {
    const value = arg === null || arg === undefined ? '' : String(arg);
    if (value === '') continue;
    if (value.length >= TELLING_LENGTH) safe = safe.replaceAll(value, '…');
    else for (const mark of quotes) safe = safe.replaceAll(mark + value + mark, `${mark}…${mark}`);
  }
  return safe;
}
