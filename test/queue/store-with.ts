import type { Store } from '../../src/queue/store.ts';

/** The store with some calls of a test's own. */
export function storeWith(store: Store, calls: Partial<Store>): Store {
  return new Proxy(store, {
    get(target, name) {
      const own: unknown = Reflect.get(calls, name);
      if (own !== undefined) return own;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
