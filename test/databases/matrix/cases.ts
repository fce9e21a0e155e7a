/**
 * Values at the edges of every type, by source engine: an expression, and where it cannot arrive as it is, what
 * happens instead. What must arrive is not written down here: the source prints it itself.
 */

/**
 * What a backend does with a value that it cannot hold: the job fails, or the value becomes another one (NULL,
 * bytes in a column without a type their text) with a counted warning. MariaDB has no negative zero, which is
 * no other number: "<0>".
 */
export type Otherwise = 'refused' | 'warned' | '<0>';

export interface Case {
  readonly sql: string;
  /** MariaDB's, too, unless it has its own. */
  readonly mysql?: Otherwise;
  readonly mariadb?: Otherwise;
  readonly postgres?: Otherwise;
  readonly sqlite?: Otherwise;
}

function same(...list: readonly string[]): readonly Case[] {
  return list.map((sql) => ({ sql }));
}

const TEXTS = [
  '',
  ' ',
  '0',
  '007',
  '1.10',
  '\\N',
  'NULL',
  'a\tb',
  'a\nb',
  'a\r\nb',
  'a\\b',
  '\\',
  '\\t',
  "'",
  '"',
  '%s',
  '\u{1F600} \u00e9 \u0301 \ufffd',
  'x ',
];

/** A text as a literal that every engine reads alike, but for the backslash. */
function literal(text: string, backslash: string): string {
  return `'${text.replaceAll('\\', backslash).replaceAll("'", "''")}'`;
}

export const POSTGRES: readonly Case[] = [
  ...same(
    "'-32768'::int2",
    "'2147483647'::int4",
    "'-9223372036854775808'::int8",
    "'9223372036854775807'::int8",
    '4294967295::oid',
    'null::int4',
    '0.1::float8',
    '0.1::float4',
    '1e308::float8',
    '5e-324::float8',
    '123456789.123456789::float8',
    '16777217::float4',
    '1e-45::float4',
    '0::float8',
    '1e15::float8',
    '1e22::float8',
    '0::numeric',
    '12.340::numeric(10,3)',
    '-0.00001::numeric',
    '99999999999999999999.99::numeric(22,2)',
    '0.10::numeric(3,2)',
    '123::numeric(5,-2)',
    '1.5::numeric(40,35)',
    'true',
    'false',
    'null::bool',
    "'2024-02-29'::date",
    "'9999-12-31'::date",
    "'0001-01-01'::date",
    "'2024-02-29 12:00:00.5'::timestamp",
    "'9999-12-31 23:59:59.999999'::timestamp",
    "'0001-01-01'::timestamp",
    "'2024-02-29 12:00:00.000001+05:30'::timestamptz",
    "'1969-12-31 23:59:59.999999+00'::timestamptz",
    "'24:00'::time",
    "'24:00:00-15:59'::timetz",
    "'1 year 2 mons -3 days 04:05:06.789'::interval",
    "'x'::varchar(3)",
    '\'c\'::"char"',
    "'n'::name",
    "'\\x00ff5c0a09'::bytea",
    "''::bytea",
    'null::bytea',
    `'{"a": 12345678901234567890.10, "a":  2}'::json`,
    `'{"b":1e3,"a":"x"}'::jsonb`,
    "'null'::json",
    "'3'::jsonb",
    '\'"t\\t"\'::json',
    "'{1,NULL,3}'::int[]",
    `ARRAY['a,b', NULL, '"', E'\\\\']`,
    "'{}'::text[]",
    "'[1,10)'::int4range",
    "'empty'::tstzrange",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
    "'10.0.0.1/8'::inet",
    "B'10110'",
    "'((0,0),(1,1.5))'::polygon",
    '\'<a b="c"/>\'::xml',
    "'a fat cat'::tsvector",
    '12.34::money',
    "row(1, null, 'a\"b')",
    'null',
    "repeat('x', 70000)",
  ),
  ...TEXTS.map((text) => ({ sql: `E${literal(text, '\\\\')}::text` })),
  { sql: "'NaN'::float8", mysql: 'refused', sqlite: 'warned' },
  { sql: "'-Infinity'::float8", mysql: 'refused' },
  { sql: "'-0'::float8", mariadb: '<0>' },
  { sql: "'NaN'::numeric", mysql: 'refused' },
  { sql: "'Infinity'::numeric", mysql: 'refused' },
  { sql: `${'9'.repeat(500)}.${'1'.repeat(500)}::numeric`, mysql: 'refused' },
  { sql: `1.${'0'.repeat(30)}1::numeric`, mysql: 'refused' },
  { sql: "'infinity'::date", mysql: 'refused' },
  { sql: "'4713-01-01 BC'::date", mysql: 'refused' },
  { sql: "'5874897-12-31'::date", mysql: 'refused' },
  { sql: "'-infinity'::timestamp", mysql: 'refused' },
  { sql: "'294276-12-31 23:59:59.999999'::timestamp", mysql: 'refused' },
  { sql: "'4713-01-01 00:00:00 BC'::timestamp", mysql: 'refused' },
  { sql: "'infinity'::timestamptz", mysql: 'refused' },
  { sql: "'294276-12-31 23:59:59.999999+00'::timestamptz", mysql: 'refused' },
  { sql: "'4714-11-24 00:00:00+00 BC'::timestamptz", mysql: 'refused' },
];

export const MYSQL: readonly Case[] = [
  ...same(
    'CAST(-128 AS SIGNED)',
    '-9223372036854775808',
    '9223372036854775807',
    'CAST(18446744073709551615 AS UNSIGNED)',
    'NULL',
    'CAST(12.340 AS DECIMAL(10,3))',
    'CAST(-0.00001 AS DECIMAL(30,30))',
    `CAST(${'9'.repeat(65)} AS DECIMAL(65,0))`,
    `CAST(${'9'.repeat(35)}.${'1'.repeat(30)} AS DECIMAL(65,30))`,
    'CAST(0.1 AS DOUBLE)',
    '1e308',
    '1.7976931348623157e308',
    '-1e-5',
    '123456789.123456789e0',
    "CAST('2024-02-29' AS DATE)",
    "CAST('9999-12-31' AS DATE)",
    "CAST('1000-01-01' AS DATE)",
    "CAST('2024-02-29 12:00:00.5' AS DATETIME(1))",
    "CAST('9999-12-31 23:59:59.999999' AS DATETIME(6))",
    "CAST('1000-01-01 00:00:00' AS DATETIME)",
    "CAST('838:59:59' AS TIME)",
    "CAST('00:00:00' AS TIME)",
    "CAST('\\0\\xff\\n' AS BINARY)",
    "X'00ff5c0a09'",
    "CAST('' AS BINARY)",
    'TRUE',
    'FALSE',
    "REPEAT('x', 70000)",
  ),
  ...TEXTS.map((text) => ({ sql: literal(text, '\\\\') })),
  { sql: "'a\\0b'", postgres: 'refused' },
];

/** What is MySQL's own, or ends elsewhere than MariaDB's. */
export const MYSQL_ALONE = same(
  'CAST(\'{"a": [1, null, "é"]}\' AS JSON)',
  "CAST('2024' AS YEAR)",
  "CAST('-838:59:59.000000' AS TIME(6))",
);

export const MARIADB_ALONE = same(
  'JSON_COMPACT(\'{"a": 1}\')',
  "CAST('::1' AS INET6)",
  "CAST('61f0c404-5cb3-11e7-907b-a6006ad3dba0' AS UUID)",
  "CAST('-838:59:59.999999' AS TIME(6))",
  '2.2250738585072014e-308', // of a literal so small MySQL prints another number
);

export const CLICKHOUSE: readonly Case[] = [
  ...same(
    'toInt8(-128)',
    'toUInt8(255)',
    'toInt64(-9223372036854775808)',
    'toUInt64(18446744073709551615)',
    'toInt32(0)',
    'CAST(NULL AS Nullable(Int32))',
    'NULL',
    "toDecimal32('12.34', 4)",
    "toDecimal64('-0.000001', 6)",
    "toDecimal128('99999999999999999999999999999.123456789', 9)",
    'toFloat64(0.1)',
    'toFloat32(0.1)',
    '1e308',
    '-1e-5',
    'toFloat64(1e15)',
    'toFloat64(1e22)',
    "toDate('2024-02-29')",
    "toDate('2105-12-31')",
    "toDateTime('2024-02-29 12:00:00')",
    "toDateTime('2105-12-31 23:59:59', 'UTC')",
    "toDateTime('2024-02-29 12:00:00', 'Asia/Kolkata')",
    "toFixedString('abc', 3)",
    "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')",
    "CAST('a' AS Enum8('a' = 1, 'b\\'c' = 2))",
    "['a', 'b\\'c', '\\t']",
    '[1, 2]',
    "(1, 'a')",
    '[[1], []]',
    'emptyArrayString()',
    "arrayStringConcat(arrayMap(n -> 'x', range(70000)))",
  ),
  ...TEXTS.map((text) => ({ sql: `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'` })),
  { sql: 'nan', mysql: 'refused', sqlite: 'warned' },
  { sql: '-inf', mysql: 'refused' },
  { sql: "'a\\0b'", postgres: 'refused' },
  { sql: "unhex('ff00fe')", postgres: 'refused', mysql: 'refused', sqlite: 'refused' },
];

export const SQLITE: readonly Case[] = [
  ...same(
    '0',
    '-9223372036854775808',
    '9223372036854775807',
    'NULL',
    '0.1',
    '1e308',
    '5e-324',
    '-1e-5',
    '1e15',
    '1e22',
    '123456789.123456789',
    "date('2024-02-29')",
    'json(\'{"a": 1}\')',
    "printf('%.*c', 70000, 'x')",
  ),
  ...TEXTS.map((text) => ({ sql: literal(text, '\\') })),
  { sql: '9e999' },
  { sql: '-0.0' },
  { sql: "x'00ff5c0a09'", postgres: 'warned', mysql: 'refused' },
  { sql: "x''", postgres: 'warned', mysql: 'refused' },
  { sql: 'char(97, 0, 98)', postgres: 'refused' },
  { sql: "CAST(x'ff00fe' AS TEXT)", postgres: 'refused', mysql: 'refused' },
];
