/** Whether the user has the rights that a report needs. SHOW GRANTS does not tell: there are roles, and wildcards. */
import { randomBytes } from 'node:crypto';
import { quoteName } from './quote.ts';
import type { Session } from './results-session.ts';

/** Does what publishing a table does, with one that is nobody's. A crash in between leaves an empty table. */
export async function checkRights(db: Session): Promise<void> {
  const name = `dungbeetle_check_${randomBytes(8).toString('hex')}`;
  const [made, renamed] = [quoteName(name), quoteName(`${name}_renamed`)];
  await db.run(`CREATE TABLE ${made} (n BIGINT)`);
  try {
    await db.run(`INSERT INTO ${made} VALUES (1)`);
    await db.run(`UPDATE ${made} SET n = 2`);
    await db.run(`DELETE FROM ${made}`);
    await db.run(`RENAME TABLE ${made} TO ${renamed}`);
  } finally {
    await db.run(`DROP TABLE IF EXISTS ${made}, ${renamed}`);
  }
}
