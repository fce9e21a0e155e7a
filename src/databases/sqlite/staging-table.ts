/** Names and ages of staging tables. */
import { randomBytes } from 'node:crypto';

/** Staging of other stores, about which nobody here can be asked, is given up after a week. */
export const FORGOTTEN_MS = 7 * 24 * 3600 * 1000;

/** A name that no other table has. `isReserved` knows its form. */
export function stagingTable(): string {
  return `dungbeetle_staging_${randomBytes(8).toString('hex')}`;
}
