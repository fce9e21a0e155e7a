/**
 * Values of every kind in SQLite columns of every declared type, with every results backend: what arrives is what SQLite
 * itself calls the value (`typeof`, `quote`), or the job fails and names the column. Nothing is changed in silence.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import type { ColumnType, Source } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { openSource } from '../../../src/databases/open.ts';
import { tempFolder } from '../../support/folder.ts';
import { closing, queryOptions, writeOptions } from '../support.ts';
import { BACKENDS, type BackendSide } from './engines.ts';

const DATES = [
  "'2024-01-31'",
  "'0001-01-01'",
  "'12024-01-01'",
  "'002024-01-01'",
  "'2024-01-31 24:00:00'",
  '20240131',
];
const TIMES = [
  ...["'2024-01-31'", "'2024-01-31T10:00'", "'2024-01-31 10:00:00.5'", "'2024-01-31 10:00:00.123456'"],
  ...["'2024-01-31 24:00:00'", "'2024-12-31 23:59:60'", "'2024-01-31 23:60:00'", "'9999-12-31 24:00'"],
  ...[
    "'2024-02-30'",
    "'0000-00-00'",
    "'0001-01-01'",
    "'-0044-03-15'",
    "'002024-01-01'",
    "'10000-01-01 00:00:00'",
  ],
  ...["'2024-01-31 10:00:00.1234567'", "'2024-01-31 10:00:00Z'", "'2024-01-31 '", "'now'", "'10:00:00'"],
  // A Julian day, and seconds since 1970.
  ...['2460340.5', '1706659200'],
];
const INSTANTS = [
  ...[
    "'2024-01-31 10:00:00Z'",
    "'2024-01-31 10:00:00.5+00'",
    "'2024-01-31T10:00:00+05:30'",
    "'2024-01-31 10:00:00'",
  ],
  ...["'2024-01-31 24:00:00+00'", "'2024-12-31 23:59:60Z'", "'2024-01-31 10:00:00+15:60'"],
];
const NUMBERS = [
  ...[
    '0',
    '1',
    '2',
    '9007199254740993',
    '9223372036854775807',
    '1.0',
    '-0.0',
    '1.5',
    '0.1',
    '9007199254740993.0',
  ],
  ...['9223372036854775808', '1e16', '1e17', '1e22', '1e-5', "'1.0'", "'007'", "' 12 '"],
];
const ANYTHING = [
  ...NUMBERS,
  ...[
    '1e300',
    '5e-324',
    '9e999',
    '-9e999',
    "'1e5'",
    "'0x10'",
    "'abc'",
    "'NaN'",
    "'Infinity'",
    "'true'",
    "''",
  ],
];
const TEXTS = [
  "'plain'",
  "'\u00e9\u{1F600} \u6f22'",
  'char(65533)',
  "'a' || char(65533) || 'b'",
  'char(97, 0, 98)',
  'char(65279, 97)',
  "x'00ff'",
  // Bytes that are no text in one encoding or the other.
  "CAST(x'ff' AS TEXT)",
  "CAST(x'00d8' AS TEXT)",
  "CAST(x'00d84100' AS TEXT)",
  "CAST(x'd800' AS TEXT)",
  "CAST(x'd8000041' AS TEXT)",
];

interface Original {
  readonly kind: string;
  readonly value: null | bigint | number | string | Uint8Array;
}

interface Ledger {
  readonly db: DatabaseSync;
  readonly source: Source;
}

async function ledgerOf(t: TestContext, encoding: string): Promise<Ledger> {
  closing(t, () => {}); // before the folder's own hook: they run in order
  const path = join(tempFolder(t), 'ledger.db');
  const db = new DatabaseSync(path);
  closing(t, () => db.close());
  db.exec(`PRAGMA encoding = '${encoding}'`);
  const source = await openSource({ type: 'sqlite', name: 'ledger', path });
  closing(t, () => source.close());
  return { db, source };
}

// The two versions of Postgres read values alike.
for (const to of BACKENDS.filter(({ name }) => name !== 'postgres-15')) {
  test(`SQLite's declared types to ${to.name}`, { skip: to.skip }, async (t) => {
    const side = await to.open(t);
    const utf8 = await ledgerOf(t, 'UTF-8');
    const outcomes = await Promise.all([
      moved(utf8, side, 'DATE', DATES),
      moved(utf8, side, 'DATETIME', TIMES),
      moved(utf8, side, 'TIMESTAMPTZ', INSTANTS),
      ...['INTEGER', 'REAL', 'DECIMAL(30,2)', 'JSON', 'TEXT'].map((type) => moved(utf8, side, type, NUMBERS)),
      moved(utf8, side, '', ANYTHING),
      moved(utf8, side, 'CLOB', TEXTS),
      ...['UTF-16le', 'UTF-16be'].map(async (encoding) =>
        moved(await ledgerOf(t, encoding), side, 'CLOB', TEXTS),
      ),
    ]);
    assert.deepEqual(
      outcomes.flatMap(({ wrong }) => wrong),
      [],
    );
    const arrived = outcomes.reduce((sum, outcome) => sum + outcome.arrived, 0);
    assert.ok(arrived > 100, `${arrived} values arrived`);
  });
}

/** Which of these changed on their way without a word, and how many arrived. Those that are refused are left out. */
async function moved(
  { db, source }: Ledger,
  { backend, list }: BackendSide,
  type: string,
  literals: readonly string[],
): Promise<{ readonly wrong: readonly string[]; readonly arrived: number }> {
  const table = `t_${type.replaceAll(/\W/g, '_')}`;
  db.exec(`CREATE TABLE ${table} (n INTEGER PRIMARY KEY, c ${type})`);
  for (const literal of literals) db.exec(`INSERT INTO ${table} (c) VALUES (${literal})`);
  const encoding = String(db.prepare('PRAGMA encoding').get()?.['encoding']).toLowerCase();
  const left = literals.map((literal, index) => ({ literal, n: index + 1 }));
  for (;;) {
    const write = writeOptions(`${encoding}_${table}`);
    const sql = `SELECT n, c FROM ${table} WHERE n IN (${left.map(({ n }) => n).join(', ')}) ORDER BY n`;
    try {
      await using result = await source.query(sql, [], queryOptions(backend.accepts, { owner: write.owner }));
      const published = await backend.write(result, write);
      const kind = result.columns[1]?.type ?? 'ANY';
      const values = await list(published.table, kind);
      assert.equal(values.length, left.length);
      const wrong = left.flatMap(({ literal, n }, index) => {
        const original = originalOf(db, table, n, encoding);
        const value = values[index] ?? null;
        if (isSame(original, value, kind)) return [];
        return [`${type} in ${encoding}: ${literal} (${original.kind}) arrived as ${value}`];
      });
      return { wrong, arrived: left.length - wrong.length };
    } catch (error) {
      assert.ok(error instanceof DatabaseError && !error.transient, String(error));
      const [, row] = /row (\d+)/.exec(error.message) ?? [];
      assert.match(error.message, /column "c"/);
      assert.equal(left.splice(Number(row) - 1, 1).length, 1, error.message);
    }
  }
}

/** As SQLite has it. Text of another form than its encoding's is told by its bytes. */
function originalOf(db: DatabaseSync, table: string, n: number, encoding: string): Original {
  const statement = db.prepare(
    `SELECT typeof(c) AS kind, c, hex(CAST(c AS BLOB)) AS bytes FROM ${table} WHERE n = ?`,
  );
  statement.setReadBigInts(true);
  const { kind, c = null, bytes } = statement.get(n) ?? {};
  if (kind !== 'text') return { kind: String(kind), value: c };
  try {
    const decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: true });
    return { kind, value: decoder.decode(Buffer.from(String(bytes), 'hex')) };
  } catch {
    return { kind: 'invalid text', value: Buffer.from(String(bytes), 'hex') };
  }
}

function isSame({ kind, value }: Original, arrived: string | null, type: ColumnType): boolean {
  if (value === null || arrived === null) return value === arrived;
  switch (kind) {
    case 'integer':
      return plain(arrived) === String(value) || (type === 'DOUBLE' && Number(arrived) === Number(value));
    case 'real': {
      const number = Number(arrived.replace(/^(-?)inf(inity)?$/i, '$1Infinity'));
      const text = type === 'TEXT' || type === 'JSON' || type === 'ANY';
      return Object.is(number, value) && (!text || /[.ey]/.test(arrived));
    }
    case 'text':
      if (type === 'BYTES')
        return arrived === value || arrived === `\\x${Buffer.from(String(value)).toString('hex')}`;
      return arrived === value || timeOf(arrived, type) === timeOf(String(value), type);
    case 'blob':
      return arrived === `\\x${Buffer.from(value as Uint8Array).toString('hex')}`;
    default:
      // Between SQLite files its bytes; read here as JavaScript shows them.
      return arrived.includes('\ufffd');
  }
}

/** A wider column shows more zeros, and Postgres its booleans in words. */
function plain(number: string): string {
  if (number === 'true' || number === 'false') return number === 'true' ? '1' : '0';
  return number.includes('.') ? number.replace(/\.?0+$/, '') : number;
}

/** The same for texts that mean the same time, in columns of times. */
function timeOf(text: string, type: ColumnType): string {
  if (!['TIMESTAMP', 'TIMESTAMPTZ', 'DATE'].includes(type)) return `text ${text}`;
  const [, day, minute = '00:00', second = ':00', fraction = '', zone = '', era = ''] =
    /^(\d+-\d\d-\d\d)(?:[ T](\d\d:\d\d)(:\d\d)?(\.\d+)?(Z|[+-]\d\d(?::\d\d)?)?)?( BC)?$/.exec(text) ?? [];
  if (day === undefined) return `text ${text}`;
  if (type === 'DATE') return `${day}${era}`;
  const time = `${day}T${minute}${second}${fraction.replace(/\.?0*$/, '')}`;
  if (type === 'TIMESTAMP') return `${time}${zone}${era}`;
  // MySQL's column holds UTC without saying so.
  const offset = /^(|Z|\+00(:00)?)$/.test(zone) ? 'Z' : zone.length === 3 ? `${zone}:00` : zone;
  return `instant ${Date.parse(`${time}${offset}`)}${era}`;
}
