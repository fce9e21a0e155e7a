/**
 * The URL of a sibling module that runs in a process or thread of its own: `.ts` beside a source file,
 * `.js` beside a built one.
 *
 * @example new Worker(entry(import.meta.url, './sqlite-thread'))
 */
export function entry(base: string, sibling: string): URL {
  return new URL(sibling + (base.endsWith('.ts') ? '.ts' : '.js'), base);
}
