/** Opens a store by the type that the configuration names. A store's code is loaded on first use. */
import type { Store } from '../store.ts';

export type StoreConfig = { readonly type: 'sqlite'; readonly path: string };

/** Throws `StoreUnavailable`. */
export async function openStore(config: StoreConfig): Promise<Store> {
  switch (config.type) {
    case 'sqlite':
      return (await import('./sqlite.ts')).openSqliteStore({ path: config.path });
  }
}
