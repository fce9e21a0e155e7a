/** A file of some other kind has a fault in every line; nobody reads them all. */
const MOST_SHOWN = 50;

/** What is wrong with the .sql files: one line per fault, each with its file and line where it has one. */
export class TaskError extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[], options?: ErrorOptions) {
    const more = faults.length - MOST_SHOWN;
    super([...faults.slice(0, MOST_SHOWN), ...(more > 0 ? [`and ${more} more`] : [])].join('\n'), options);
    this.name = 'TaskError';
    this.faults = faults;
  }
}

/** A text from a file as a message may hold it: on one line, in quotes, not too long. */
export function quote(text: string): string {
  // JSON leaves the C1 controls and the two Unicode line breaks as they are.
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
