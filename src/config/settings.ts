/**
 * Settings: single values with the place that they come from, so that file, environment and flags can be
 * laid over each other and every message can name the right place.
 */
import type { TObject } from 'typebox';
import { suggest } from '../util/suggest.ts';
import { ConfigError } from './errors.ts';
import { app, backends, root, sources } from './schema.ts';
import { brokers, stores } from './stores.ts';

export type Origin =
  | { readonly kind: 'file'; readonly file: string }
  | { readonly kind: 'environment'; readonly variable: string }
  | { readonly kind: 'flag'; readonly flag: string };

export interface Setting {
  /** As in the file: ["db", "ledger", "dsn"]. */
  readonly path: readonly string[];
  /** Undefined for a section without keys. Text where it is from the environment or a flag. */
  readonly value: unknown;
  readonly origin: Origin;
}

/** The sections with a name of their own for each entry, and those with a type. */
const NAMED: Readonly<Record<string, readonly string[]>> = {
  db: keysOf(sources),
  results: keysOf(backends),
};
const JOB_QUEUE: Readonly<Record<string, readonly string[]>> = {
  broker: keysOf(brokers),
  state: keysOf(stores),
};
const ROOT_KEYS = Object.keys(root.properties);
const SECTIONS = ['app', 'job_queue', ...Object.keys(NAMED)];

/** The keys of a schema. */
export function keysIn(schema: TObject): readonly string[] {
  return Object.keys(schema.properties);
}

function keysOf(engines: Readonly<Record<string, { readonly keys: TObject }>>): readonly string[] {
  return [...new Set(Object.values(engines).flatMap((engine) => keysIn(engine.keys)))];
}

/** "config.toml: db.ledger.dsn", "environment: DUNGBEETLE_DB__LEDGER__DSN", "--server": the head of a message. */
export function place(setting: Pick<Setting, 'path' | 'origin'>): string {
  const { origin, path } = setting;
  switch (origin.kind) {
    case 'file':
      return `${origin.file}: ${path.map(shown).join('.')}`;
    case 'environment':
      return `environment: ${/^\w{1,200}$/.test(origin.variable) ? origin.variable : 'DUNGBEETLE_…'}`;
    case 'flag':
      return `--${origin.flag}`;
  }
}

/** A key as a message shows it: one that does not look like a key may be a misplaced value, a secret even. */
export function shown(key: string): string {
  return /^[\w-]{1,64}$/.test(key) ? key : '"…"';
}

/** The settings of a parsed file; top-level keys may be written as the flags are, with hyphens. */
export function fileSettings(file: string, table: Readonly<Record<string, unknown>>): readonly Setting[] {
  const settings: Setting[] = [];
  const walk = (path: readonly string[], value: unknown) => {
    if (!isTable(value)) {
      settings.push({ path, value, origin: { kind: 'file', file } });
      return;
    }
    const entries = Object.entries(value);
    if (entries.length === 0) settings.push({ path, value: undefined, origin: { kind: 'file', file } });
    for (const [key, inner] of entries) walk([...path, key], inner);
  };
  for (const [key, value] of Object.entries(table)) {
    const underscored = key.replaceAll('-', '_');
    if (underscored !== key && ROOT_KEYS.includes(underscored)) {
      if (Object.hasOwn(table, underscored)) {
        throw new ConfigError(`${file}: ${key}: ${underscored} is the same key; drop one of them`);
      }
      walk([underscored], value);
    } else {
      walk([key], value);
    }
  }
  return settings;
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Throws a `ConfigError` if there is no such key, in whatever engine. */
export function checkKnown(setting: Setting): void {
  const error = problem(setting);
  if (error !== null) throw error;
}

function problem(setting: Setting): ConfigError | null {
  const [section = '', part, ...rest] = setting.path;
  const inner = part === undefined ? [] : [part, ...rest];
  if (ROOT_KEYS.includes(section)) return inner.length > 0 ? notASection(setting, [section]) : null;
  if (section === 'app') return problemOfKey(setting, inner, keysIn(app), ['app']);
  if (section === 'job_queue') {
    if (part === undefined) return problemOfSection(setting);
    const keys = own(JOB_QUEUE, part);
    if (keys === null) return unknown(setting, part, Object.keys(JOB_QUEUE), ['job_queue']);
    return problemOfKey(setting, rest, keys, ['job_queue', part]);
  }
  const keys = own(NAMED, section);
  if (keys === null) return unknown(setting, section, [...ROOT_KEYS, ...SECTIONS], []);
  if (part === undefined) return problemOfSection(setting);
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(part)) {
    return new ConfigError(
      `${place(setting)}: a name in [${section}.NAME] is 1 to 63 letters, digits, "_" and "-", beginning with a letter or a digit`,
    );
  }
  return problemOfKey(setting, rest, keys, [section, part]);
}

function own<T>(table: Readonly<Record<string, T>>, key: string): T | null {
  return Object.hasOwn(table, key) ? (table[key] ?? null) : null;
}

function problemOfKey(
  setting: Setting,
  [key, ...more]: readonly string[],
  keys: readonly string[],
  section: readonly string[],
): ConfigError | null {
  if (key === undefined) return problemOfSection(setting);
  if (!keys.includes(key)) return unknown(setting, key, keys, section);
  return more.length > 0 || setting.value === undefined ? notASection(setting, [...section, key]) : null;
}

/** A section's own path is a setting only when it is empty. */
function problemOfSection(setting: Setting): ConfigError | null {
  if (setting.value === undefined) return null;
  const name = setting.path.map(shown).join('.');
  return new ConfigError(`${place(setting)}: ${name} is a section with keys of its own, not a value`);
}

function notASection(setting: Setting, path: readonly string[]): ConfigError {
  return new ConfigError(`${place({ ...setting, path })}: ${path.at(-1)} is a key, not a section`);
}

function unknown(
  setting: Setting,
  key: string,
  known: readonly string[],
  section: readonly string[],
): ConfigError {
  const meant = suggest(key, known);
  if (setting.origin.kind === 'environment') {
    const variable = meant === null ? null : variableOf([...section, meant]);
    const fix =
      variable === null ? 'see "Environment" in docs/configuration.md' : `did you mean ${variable}?`;
    return new ConfigError(`${place(setting)}: unknown variable; ${fix}`);
  }
  const fix = meant === null ? `known here: ${known.join(', ')}` : `did you mean "${meant}"?`;
  return new ConfigError(`${place({ ...setting, path: [...section, key] })}: unknown key; ${fix}`);
}

/** The environment variable of a key. */
export function variableOf(path: readonly string[]): string {
  return `DUNGBEETLE_${path.join('__').toUpperCase().replaceAll('-', '_')}`;
}

/** Later layers over earlier ones, by path. */
export function overlay(layers: readonly (readonly Setting[])[]): ReadonlyMap<string, Setting> {
  const merged = new Map<string, Setting>();
  for (const setting of layers.flat()) merged.set(setting.path.join('.'), setting);
  return merged;
}
