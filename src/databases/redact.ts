/** Takes the values of arguments out of messages, which end up in logs and job records. */

/** From this length on a value is taken out wherever it stands: a shorter one would take letters out of plain words. */
const TELLING_LENGTH = 4;
/** Letters alone, no more than a word has of them: it is taken out where it stands as a word, not inside of another. */
const WORD = /^\p{L}{1,15}$/u;

/**
 * Words of the engines' own messages, in which they say nothing of an argument that happens to be one of them. Between
 * quotes it may be the argument, and is taken out there.
 */
const OWN_WORDS: ReadonlySet<string> = new Set(
  `about access account adding admin after again aggregate alias allowed already always ambiguous another argument
   arguments array authentication available bad before been being between bigger bigint binary both bytes call called
   cannot cast char character characters charset check clause client closed collation collations column columns command
   commit condition connect connected connection connections constant constraint contains context conversion convert
   converting correct corresponds could count create created current cursor database date datetime deadlock decimal
   default deleted delete denied depth derived different digits disabled disk does double drop duplicate during each
   element empty enabled encoding ended error errors exceeded exceeds exclusive execute execution exist existing exists
   expected expression failed false field fields file first float foreign format found from full function functions
   given grant group handler have host illegal implicit incompatible incorrect index inner input insert inside integer
   interrupted interval into invalid join json just keys killed known large larger left length like limit line list
   loaded local lock locked long longer lost main manual many match maximum memory message missing more most much must
   name named near needed nested next none null number object offset only open operand operation operator option order
   outer outside overflow packet parameter parameters parse password permission permitted place plugin position possible
   prepare prepared primary privilege privileges procedure query quoted range read reached real recursive reference
   references refused relation remaining request required response result return returned right role rows running schema
   select sequence server session settings shutdown signed size smallint some sort space specified start state statement
   statements string subquery such support supported syntax system table tables temporary text than that their then there
   this time timed timeout timestamp token transaction true truncated type types undefined unique unknown unsigned until
   update used user users using valid value values variable version view waiting wait warning when where which while with
   within without write wrong year your zero zone`.split(/\s+/),
);

/**
 * `quotes`: the marks in which the engine quotes values; short ones, and those that may be the engine's own words, go
 * where they stand between them.
 */
export function redact(message: string, args: readonly unknown[], quotes: readonly string[]): string {
  const values = args.map((arg) => (arg === null || arg === undefined ? '' : String(arg)));
  // A value may hold another.
  const longest_first = [...new Set(values)]
    .filter((value) => value !== '')
    .sort((a, b) => b.length - a.length);
  let safe = message;
  for (const value of longest_first) {
    for (const mark of quotes) safe = safe.replaceAll(mark + value + mark, `${mark}…${mark}`);
    if (value.length < TELLING_LENGTH || isOwn(value)) continue;
    safe = WORD.test(value)
      ? safe.replace(new RegExp(`(?<![\\p{L}\\p{N}])${value}(?![\\p{L}\\p{N}])`, 'gu'), '…')
      : safe.replaceAll(value, '…');
  }
  return safe;
}

/** Whether all of its words are the engines' too: "value", "max_allowed_packet", "syntax error". */
function isOwn(value: string): boolean {
  return value
    .split(/[\s_]/)
    .every(
      (word) =>
        OWN_WORDS.has(word.toLowerCase()) || /^(?:a|an|at|by|in|is|it|max|not|of|on|or|the|to)$/i.test(word),
    );
}
