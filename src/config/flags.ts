/** The command line, in the forms of Go's pflag, which DungBeetle has its flags by. */
import { parseArgs } from 'node:util';
import Type from 'typebox';
import { suggest } from '../util/suggest.ts';
import { ConfigError } from './errors.ts';
import { root } from './schema.ts';
import { keysIn, type Setting } from './settings.ts';
import { annotations, fromText } from './values.ts';

/** What the command line asks for. */
export type Command = 'run' | 'new-config' | 'version' | 'help';

export interface Flags {
  readonly command: Command;
  /** --config, as given; null: not given. */
  readonly config: string | null;
  readonly settings: readonly Setting[];
}

const COMMANDS: Readonly<Record<Exclude<Command, 'run'>, string>> = {
  'new-config':
    'write a commented sample to ./config.toml, or to --config, and a first task to ./sql, and end',
  version: 'print the version and end',
  help: 'print this and end',
};

/** The flags that are configuration: the schema's top-level keys, with hyphens. */
const FLAGS = new Map(keysIn(root).map((key) => [key.replaceAll('_', '-'), key]));

const TAKES_VALUE = new Set(['config', ...FLAGS.keys()].filter((flag) => !isBoolean(FLAGS.get(flag))));
const KNOWN = ['config', ...FLAGS.keys(), ...Object.keys(COMMANDS)];

function isBoolean(key: string | undefined): boolean {
  return key !== undefined && Type.IsBoolean(schemaOf(key));
}

function schemaOf(key: string) {
  const schema = Object.entries(root.properties).find(([name]) => name === key)?.[1];
  if (schema === undefined) throw new Error(`no key ${key}`);
  return schema;
}

/**
 * Reads the command line. `--flag value`, `--flag=value`; booleans `--flag` and `--flag=false`; the last of
 * a repeated flag counts, lists add up. Throws a `ConfigError`, which never holds a flag's value.
 */
export function parseFlags(argv: readonly string[]): Flags {
  // Not strict: the strict mode of parseArgs knows no "--flag=false" and quotes what it refuses. What it
  // would refuse is refused here.
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    tokens: true,
    options: Object.fromEntries([
      ...KNOWN.map((flag) => [flag, { type: TAKES_VALUE.has(flag) ? 'string' : 'boolean' }] as const),
      ['help', { type: 'boolean', short: 'h' } as const],
    ]),
  });
  const asked = new Set<Command>();
  const values = new Map<string, unknown>();
  let config: string | null = null;
  for (const token of tokens) {
    if (token.kind !== 'option') {
      if (token.kind === 'option-terminator' && token.index === argv.length - 1) continue;
      throw new ConfigError('arguments: only flags are taken, see --help');
    }
    const { name, value } = token;
    if (!KNOWN.includes(name)) throw unknownFlag(token.rawName, name);
    if (TAKES_VALUE.has(name)) {
      if (value === undefined || value === '') throw new ConfigError(`--${name}: a value is missing`);
      if (name === 'config') config = value;
      else addValue(values, name, value);
      continue;
    }
    const on = value === undefined ? true : fromText(Type.Boolean(), value);
    if (typeof on !== 'boolean') throw new ConfigError(`--${name}: must be true or false`);
    if (FLAGS.has(name)) values.set(name, on);
    else if (on) asked.add(name as Command);
  }
  const command = (['help', 'version', 'new-config'] as const).find((one) => asked.has(one)) ?? 'run';
  const settings = [...values].map(
    ([flag, value]): Setting => ({ path: [FLAGS.get(flag) ?? flag], value, origin: { kind: 'flag', flag } }),
  );
  return { command, config, settings };
}

/** Lists add up in the order given, as text with commas, which is how a list comes from one flag too. */
function addValue(values: Map<string, unknown>, flag: string, value: string): void {
  const before = values.get(flag);
  const isList = flag === 'queue' || flag === 'sql-directory';
  values.set(flag, isList && typeof before === 'string' ? `${before},${value}` : value);
}

function unknownFlag(raw: string, name: string): ConfigError {
  if (!/^[\w-]{1,64}$/.test(name)) return new ConfigError('arguments: unknown flag, see --help');
  const meant = suggest(name, KNOWN);
  const fix = meant === null ? 'see --help' : `did you mean --${meant}?`;
  return new ConfigError(`${raw}: unknown flag; ${fix}`);
}

/** What --help prints: every flag, with its default. */
export function help(): string {
  const placeholder: Readonly<Record<string, string>> = {
    server: 'HOST:PORT',
    'sql-directory': 'FOLDER',
    queue: 'NAME',
    'worker-name': 'NAME',
    'worker-concurrency': 'N',
  };
  const rows: [string, string][] = [
    ['--config FILE', 'configuration file, TOML (default config.toml)'],
    ...[...FLAGS].map(([flag, key]): [string, string] => {
      const { about, default: value, fallback } = annotations(schemaOf(key));
      const shown = fallback ?? [value].flat().join(',');
      return [`--${flag}${placeholder[flag] ? ` ${placeholder[flag]}` : ''}`, `${about} (default ${shown})`];
    }),
    ...Object.entries(COMMANDS).map(([flag, about]): [string, string] => [`--${flag}`, about]),
  ];
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return `Usage: dungbeetle [flags]

A job server for SQL reports.

${rows.map(([flag, about]) => `  ${flag.padEnd(width)}  ${about}`).join('\n')}

Flags go over the environment (DUNGBEETLE_…, "__" for each dot: DUNGBEETLE_DB__LEDGER__DSN), the environment
over the file, the file over the defaults.
`;
}
