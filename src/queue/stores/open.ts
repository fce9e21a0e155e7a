/** Opens a store by the type that the configuration names. A store's code is loaded on first use. */
import { StoreUnavailable } from '../errors.ts';
import type { Store } from '../store.ts';

export type StoreConfig =
  | { readonly type: 'sqlite'; readonly path: string }
  | { readonly type: 'postgres' | 'redis' };

/** Throws `StoreUnavailable`. */
export async function openStore(config: StoreConfig, _onWarning: (message: string) => void): Promise<Store> {
  switch (config.type) {
    case 'sqlite':
      return (await import('./sqlite.ts')).openSqliteStore({ path: config.path });
    default:
      throw StoreUnavailable(`"${config.type}" is not there yet`);
  }
}
