/**
 * What a query may leave in its session when its transaction is rolled back: prepared statements, connections of dblink,
 * the state of random(), settings with a dot in their name (which are '' from then on, and were NULL before), whatever
 * a language or an extension keeps. Some of it nothing takes away but the session's end, so that has to come where a
 * query may do such a thing: where it calls one of the functions that do, or one that somebody has made, by whichever
 * way.
 */
import { quoteLiteral } from './quote.ts';
import { wordsOf } from './statement.ts';

/** The server's own functions that leave something, and those that run text as SQL, in which anything may stand. */
const LASTING = [
  'set_config',
  'setseed',
  'ts_stat',
  'ts_rewrite',
  '(query|cursor|table|schema|database)_to_xml\\w*',
  'pg_replication_origin_\\w+',
  'pg_(start_)?backup\\w*',
  'pg_(create|copy)_\\w+_slot',
  'binary_upgrade_\\w+',
].join('|');
const IS_LASTING = new RegExp(`^(${LASTING})$`);

/** Extensions whose functions leave nothing. */
const CLEAN_EXTENSIONS = [
  'btree_gin',
  'btree_gist',
  'citext',
  'cube',
  'earthdistance',
  'fuzzystrmatch',
  'hstore',
  'intarray',
  'ltree',
  'pg_stat_statements',
  'pg_trgm',
  'pgcrypto',
  'postgis',
  'postgis_raster',
  'seg',
  'unaccent',
  'uuid-ossp',
  'vector',
];

/** Objects with lower oids are the server's own. */
const FIRST_USER_OID = 16_384;

/**
 * A query that tells whether a statement may leave something, "t" or "f"; null: it may. To be asked in the transaction
 * in which the statement was parsed, which holds locks on all that it reads, the tables behind its views too.
 */
export function whetherItLasts(sql: string): string | null {
  const words = wordsOf(sql);
  if (words === null || words.some((word) => IS_LASTING.test(word))) return null;
  const names = words.map(quoteLiteral).join(', ');
  return `
  WITH made AS MATERIALIZED (SELECT p.oid, p.proname FROM pg_catalog.pg_proc p WHERE p.oid >= ${FIRST_USER_OID}
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
      AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND e.extname IN (${CLEAN_EXTENSIONS.map(quoteLiteral).join(', ')}))),
  used AS MATERIALIZED (SELECT DISTINCT relation AS oid FROM pg_catalog.pg_locks
    WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' AND relation >= ${FIRST_USER_OID}),
  rules AS MATERIALIZED (
    SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass AS class, r.oid, pg_catalog.pg_get_viewdef(r.ev_class) AS text
      FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
      WHERE r.ev_class IN (SELECT oid FROM used)
    UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, pg_catalog.pg_get_expr(p.polqual, p.polrelid)
      FROM pg_catalog.pg_policy p WHERE p.polrelid IN (SELECT oid FROM used))
  SELECT EXISTS (SELECT FROM made WHERE proname = ANY (ARRAY[${names}]::pg_catalog.name[]))
    OR EXISTS (SELECT FROM rules WHERE text ~ ${quoteLiteral(`\\m(${LASTING})\\M`)}
      OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN made ON made.oid = d.refobjid
        WHERE d.classid = rules.class AND d.objid = rules.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass))
    OR EXISTS (SELECT FROM pg_catalog.pg_operator o JOIN made ON made.oid = o.oprcode WHERE o.oid >= ${FIRST_USER_OID})
    OR EXISTS (SELECT FROM pg_catalog.pg_cast c JOIN made ON made.oid = c.castfunc)
    OR EXISTS (SELECT FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_depend d ON d.objid = c.oid
      AND d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
      AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass JOIN made ON made.oid = d.refobjid
      WHERE c.contypid <> 0)`;
}
