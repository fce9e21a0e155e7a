import { constants } from 'node:os';

export interface Ending {
  readonly signal: AbortSignal;
  /** The exit code that tells of the signal; 0 while there was none. */
  code(): number;
}

/** Aborted by Ctrl-C and its like, instead of an end on the spot: what was started must be stopped. */
export function whenEnded(): Ending {
  const controller = new AbortController();
  let code = 0;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      code = 128 + constants.signals[name];
      controller.abort(new Error(`ended by ${name}`));
    });
  }
  return { signal: controller.signal, code: () => code };
}
