/** What is wrong with the .sql files: one line per fault, each with file and line. */
export class TaskError extends Error {
  constructor(faults: readonly string[]) {
    super(faults.join('\n'));
    this.name = 'TaskError';
  }
}
