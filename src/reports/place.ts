import type { Position } from '../databases/errors.ts';
import type { ResolvedTask } from '../tasks/registry.ts';

/** Where in the .sql file a place of a task's query is: `file:line:column`, or the query's begin if it is not known. */
export function placeInFile({ file, begins }: ResolvedTask, position: Position | null): string {
  if (position === null) return `${file}:${begins.line}:${begins.column}`;
  const { line, column } = position;
  // In a line of its own the column is the file's too.
  const first = line === 1 ? begins.column - 1 : 0;
  return `${file}:${begins.line + line - 1}${column === null ? '' : `:${first + column}`}`;
}
