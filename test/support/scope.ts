/** A TestContext, or `{ after }` of node:test for what a whole suite uses. */
export interface Scope {
  after(end: () => void | Promise<void>): void;
}

/**
 * Runs `end` after the hooks that the test registers later: node:test runs them first come, first served, and a
 * test's pools must be closed before their server or their database goes.
 */
export function afterOthers(t: Scope, end: () => void | Promise<void>): void {
  t.after(() => t.after(end));
}
