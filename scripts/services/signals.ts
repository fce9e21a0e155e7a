import { constants } from 'node:os';

/** Aborted by Ctrl-C and its like, instead of an end on the spot: what was started must be stopped. */
export function whenEnded(): { readonly signal: AbortSignal; code(): number } {
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
