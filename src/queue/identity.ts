/** What a store knows a worker by. */
import { randomBytes } from 'node:crypto';

/**
 * A worker's name and a mark of its own. Workers may have the same name (every container's first process, say), and
 * what is held by the one is not the other's to give back.
 */
export function identityOf(name: string): string {
  return `${name}#${randomBytes(3).toString('hex')}`;
}

/** The name in an identity; of what is none, all of it. */
export function nameOf(identity: string): string {
  return identity.replace(/#[0-9a-f]{6}$/, '');
}
