const NOT_TODAY = 'not today: ';

/** The reason of what somebody else does not give us today, and gives again without our doing: no run fails by it. */
export function notToday(reason: string): string {
  return `${NOT_TODAY}${reason}`;
}

/** Why a test that needs a server is skipped, by the reason why there is none. */
export function withoutServer(name: string, reason: string): string {
  return reason.startsWith(NOT_TODAY)
    ? notToday(`${name}: ${reason.slice(NOT_TODAY.length)}`)
    : `missing: ${name}: ${reason}`;
}

/**
 * The closing line of a run: how many tests were skipped, by reason. A reason that begins with `missing:` is a
 * server or a right that the machine lacks; `not today:` is for what the machine cannot help; any other is the test's
 * own, such as a system it is not for.
 */
export function summary(reasons: readonly string[]): { readonly text: string; readonly isMissing: boolean } {
  const counts = new Map<string, number>();
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const parts = [...counts].sort(([, a], [, b]) => b - a).map(([reason, count]) => `${count} × ${reason}`);
  const verb = reasons.length === 1 ? 'test or suite was' : 'tests and suites were';
  return {
    text: parts.length === 0 ? '' : `${reasons.length} ${verb} skipped: ${parts.join('; ')}`,
    isMissing: reasons.some((reason) => reason.startsWith('missing:')),
  };
}
