/** Foreign keys of others that refer to a result table. Replacing it would leave them with the old rows. */
import { errorNumber, type Session } from './results-session.ts';

/** MariaDB shows its dictionary to those with the PROCESS privilege; its information_schema would open every table. */
const MARIADB = `SELECT FOR_NAME AS child, ID AS name FROM information_schema.INNODB_SYS_FOREIGN WHERE REF_NAME = ?`;
const MYSQL = `SELECT TABLE_NAME AS child, CONSTRAINT_NAME AS name FROM information_schema.REFERENTIAL_CONSTRAINTS
  WHERE UNIQUE_CONSTRAINT_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME = ?`;
const NOT_PERMITTED = 1227;

/** The table and the name of such a key; null if there is none, or none can be seen. */
export async function referenceTo(db: Session, table: string): Promise<string | null> {
  const { mariadb } = db.flavor;
  try {
    const [schema] = mariadb ? await db.query<{ name: string }>('SELECT DATABASE() AS name') : [];
    const name = schema === undefined ? table : `${inFiles(schema.name)}/${inFiles(table)}`;
    const [key] = await db.query<{ child: string; name: string }>(mariadb ? MARIADB : MYSQL, [name]);
    return key === undefined ? null : `"${key.child}" (${key.name})`;
  } catch (error) {
    if (errorNumber(error) !== NOT_PERMITTED) throw error;
    return null;
  }
}

/** As names of tables are written in names of files, by which the dictionary calls them. */
function inFiles(name: string): string {
  return name.replace(/[^\w]/g, (character) => `@${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
