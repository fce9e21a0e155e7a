/** Text that may be anybody's, as terminals and logs can show it. */

/** Steers a terminal, or turns the order in which text is shown. A tab and a line feed do not. */
const STEERING = /[^\P{Cc}\t\n]|[\u2028\u2029\p{Bidi_Control}]/gu;

/** The same text with U+FFFD for what steers a terminal. */
export function printable(text: string): string {
  return text.replace(STEERING, '\ufffd');
}
