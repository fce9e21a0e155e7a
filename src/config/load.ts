/** From command line, environment and file to a `Config`. */
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import Type, { type StaticDecode, type TObject, type TProperties } from 'typebox';
import type { Config } from './config.ts';
import type { Engine } from './engine.ts';
import { type Environment, environmentSettings } from './environment.ts';
import { ConfigError } from './errors.ts';
import { readToml } from './file.ts';
import { parseFlags } from './flags.ts';
import { app, backends, root, sources } from './schema.ts';
import { checkKnown, fileSettings, keysIn, overlay, place, type Setting, shown } from './settings.ts';
import { absolute, identity, MEMORY, sqlitePath } from './sqlite.ts';
import { brokers, PLACE_KEYS, stores } from './stores.ts';
import { annotations, decode, fromText } from './values.ts';

export interface Sources {
  /** The command line, without the program's name. */
  readonly argv: readonly string[];
  readonly env: Environment;
  /** The working directory, absolute. */
  readonly cwd: string;
}

export const DEFAULT_FILE = 'config.toml';

/**
 * Reads the configuration: flags over environment over file over defaults. Paths in the file are relative to
 * its folder, those in flags and environment to the working directory. The file must exist, unless it is the
 * default one and the environment gives databases. Throws a `ConfigError`; no message holds a value that can
 * be a secret.
 */
export function loadConfig({ argv, env, cwd }: Sources): Config {
  const flags = parseFlags(argv);
  // The environment names its settings after the file's entries, and may name the file itself.
  const named = flags.config ?? environmentSettings(env, []).config;
  if (named === '') throw new ConfigError('environment: DUNGBEETLE_CONFIG: must be a file name');
  const name = named ?? DEFAULT_FILE;
  const path = resolve(cwd, name);
  const table = readToml(path, name);
  const inFile = table === null ? [] : fileSettings(name, table);
  const { settings: inEnvironment } = environmentSettings(env, inFile);
  if (table === null && (named !== null || !inEnvironment.some((setting) => setting.path[0] === 'db'))) {
    throw new ConfigError(
      `${name}: no such file; name one with --config, or write a sample with --new-config`,
    );
  }
  const layers = [inFile, inEnvironment, flags.settings];
  for (const setting of layers.flat()) checkKnown(setting);
  return new Reader(overlay(layers), { cwd, name, file: table === null ? null : path }).config();
}

/** Where the configuration is from. */
interface Origins {
  readonly cwd: string;
  readonly name: string;
  /** Absolute; null: there is no file. */
  readonly file: string | null;
}

const STATE = ['job_queue', 'state'];
const BROKER = ['job_queue', 'broker'];

/** Reads the sections of settings that are all known, each value by its schema. */
class Reader {
  readonly #settings: ReadonlyMap<string, Setting>;
  readonly #cwd: string;
  readonly #file: string | null;
  /** Where a message about a missing key points to. */
  readonly #place: string;
  readonly #from: Origins;

  constructor(settings: ReadonlyMap<string, Setting>, from: Origins) {
    this.#settings = settings;
    this.#from = from;
    this.#cwd = from.cwd;
    this.#file = from.file;
    this.#place = from.file === null ? 'environment' : from.name;
  }

  config(): Config {
    const top = this.#section([], root);
    const concurrency = top.worker_concurrency;
    const config: Config = {
      file: this.#file,
      app: this.#app(concurrency),
      server: top.server,
      sql_directories: top.sql_directory.map((folder) =>
        resolve(this.#folder(['sql_directory'], this.#cwd), folder),
      ),
      queues: top.queue ?? null,
      worker: {
        name: top.worker_name ?? `${hostname()}-${process.pid}`,
        concurrency,
        only: top.worker_only,
      },
      store: this.#store(concurrency),
      results: this.#entries('results', backends, concurrency),
      db: this.#entries('db', sources, concurrency),
    };
    this.#checkFiles(config);
    this.#checkReady(config);
    return config;
  }

  #checkReady({ app: { ready }, db, results }: Config): void {
    const known = new Set([
      ...['store', 'db', 'results'],
      ...Object.keys(db).map((name) => `db.${name}`),
      ...Object.keys(results).map((name) => `results.${name}`),
    ]);
    const unknown = ready.find((part) => !known.has(part));
    if (unknown === undefined) return;
    throw new ConfigError(`${this.#where(['app', 'ready'])}: there is no "${unknown}" in the configuration`);
  }

  #app(concurrency: number): Config['app'] {
    const values = this.#section(['app'], app);
    if (values.heartbeat * 2 >= values.lease) {
      const culprit = this.#settings.get('app.heartbeat') ?? this.#settings.get('app.lease');
      const where = culprit === undefined ? this.#place : place(culprit);
      throw new ConfigError(
        `${where}: app.heartbeat must be less than half of app.lease, so that one lost heartbeat loses no lease`,
      );
    }
    const limit = shorter(values.default_job_ttl, values.timeout);
    return {
      log_level: values.log_level,
      default_job_ttl_ms: limit,
      default_job_ttl_key: limit === values.default_job_ttl ? 'default_job_ttl' : 'timeout',
      shutdown_timeout_ms: values.shutdown_timeout,
      max_rows: values.max_rows,
      max_bytes: values.max_bytes,
      max_value_bytes: values.max_value_bytes,
      allowed_hosts: values.allowed_hosts ?? [],
      body_limit: values.body_limit,
      ready: values.ready,
      lease_ms: values.lease,
      heartbeat_ms: values.heartbeat,
      sweep_ms: values.sweep,
      results_sweep_ms: values.results_sweep,
      max_crashes: values.max_crashes,
      key_concurrency:
        values.key_concurrency === undefined
          ? Math.max(1, Math.floor(concurrency / 2))
          : values.key_concurrency || null,
    };
  }

  #store(concurrency: number): Config['store'] {
    const reader = this.#withBroker();
    const { type, engine } = reader.#typed(STATE, stores, 'sqlite');
    const broker = this.#typed(BROKER, brokers, type);
    if (broker.type !== type) {
      throw new ConfigError(
        `${this.#where([...BROKER, 'type'])}: must be "${type}", as job_queue.state has it: the store is its own broker; drop the section`,
      );
    }
    this.#checkKeys(BROKER, type, broker.engine.keys);
    for (const [key, schema] of Object.entries(broker.engine.keys.properties)) {
      const path = [...BROKER, key];
      if (this.#settings.has(path.join('.'))) this.#value(path, schema);
    }
    for (const key of PLACE_KEYS) this.#checkSamePlace(key, engine.keys);
    return reader.#build(STATE, type, engine, concurrency);
  }

  /** With what [job_queue.state] leaves out taken from [job_queue.broker]: either may be all there is. */
  #withBroker(): Reader {
    const settings = new Map(this.#settings);
    for (const setting of this.#settings.values()) {
      const [section, part, key] = setting.path;
      if (section !== 'job_queue' || part !== 'broker' || key === undefined) continue;
      const path = [...STATE, key].join('.');
      if (!settings.has(path)) settings.set(path, setting);
    }
    return new Reader(settings, this.#from);
  }

  /** Broker and state may both say where the queue is; if they do they must agree. */
  #checkSamePlace(key: string, keys: TObject): void {
    const schema = keys.properties[key];
    if (schema === undefined) return;
    const [broker, state] = [BROKER, STATE].map((section) => {
      const path = [...section, key];
      if (!this.#settings.has(path.join('.'))) return undefined;
      const value: unknown = this.#value(path, schema);
      if (key === 'path') return this.#sqliteFile(path, String(value));
      return JSON.stringify(Array.isArray(value) ? value.toSorted() : value);
    });
    if (broker === undefined || state === undefined || broker === state) return;
    throw new ConfigError(
      `${this.#where([...BROKER, key])}: must be the same as job_queue.state.${key}: the store is its own broker; drop one of them`,
    );
  }

  #entries<Entry>(
    section: 'db' | 'results',
    engines: Readonly<Record<string, Engine<Entry>>>,
    concurrency: number,
  ): Readonly<Record<string, Entry>> {
    const names = new Set<string>();
    for (const { path } of this.#settings.values()) {
      if (path[0] === section && path[1] !== undefined) names.add(path[1]);
    }
    if (names.size === 0) {
      const what = section === 'db' ? 'source database' : 'results backend';
      throw new ConfigError(
        `${this.#place}: ${section}: no ${what} is given; add a section [${section}.NAME]`,
      );
    }
    const entries: Record<string, Entry> = Object.create(null);
    for (const name of names) {
      const { type, engine } = this.#typed([section, name], engines);
      entries[name] = this.#build([section, name], type, engine, concurrency);
    }
    return entries;
  }

  /** The engine of a section that has a type. */
  #typed<Kind>(
    path: readonly string[],
    engines: Readonly<Record<string, Kind>>,
    fallback?: string,
  ): { readonly type: string; readonly engine: Kind } {
    const setting = this.#settings.get([...path, 'type'].join('.'));
    const supported = `supported: ${Object.keys(engines)
      .map((one) => `"${one}"`)
      .join(', ')}`;
    const where = this.#where([...path, 'type']);
    const written = setting === undefined ? fallback : setting.value;
    if (written === undefined) throw new ConfigError(`${where}: missing; ${supported}`);
    const type = typeof written === 'string' ? written.toLowerCase() : '';
    const engine = Object.hasOwn(engines, type) ? engines[type] : undefined;
    // The type is not repeated: a DSN may have got into the wrong key.
    if (engine === undefined) throw new ConfigError(`${where}: unknown engine; ${supported}`);
    return { type, engine };
  }

  /** Throws for keys of other engines. */
  #checkKeys(path: readonly string[], type: string, schema: TObject): void {
    const keys = keysIn(schema);
    for (const other of this.#settings.values()) {
      const key = other.path[path.length];
      if (key === undefined || !path.every((part, index) => part === other.path[index])) continue;
      if (!keys.includes(key)) {
        throw new ConfigError(
          `${place(other)}: ${shown(key)} is not a key of type "${type}", which has ${keys.join(', ')}`,
        );
      }
    }
  }

  #build<Part>(
    path: readonly string[],
    type: string,
    engine: Engine<Part>,
    worker_concurrency: number,
  ): Part {
    this.#checkKeys(path, type, engine.keys);
    return engine.build(this.#section(path, engine.keys), {
      worker_concurrency,
      file: (key, dsn) => this.#sqliteFile([...path, key], dsn),
      check: (key, why) => {
        if (why !== null) throw new ConfigError(`${this.#where([...path, key])}: ${why}`);
      },
    });
  }

  #section<Keys extends TProperties>(
    path: readonly string[],
    schema: TObject<Keys>,
  ): StaticDecode<TObject<Keys>> {
    const values: Record<string, unknown> = {};
    for (const [key, keySchema] of Object.entries(schema.properties)) {
      const value = this.#value([...path, key], keySchema);
      if (value !== undefined) values[key] = value;
    }
    // Each value was decoded by its own schema, and those that are missing are optional ones.
    return values as StaticDecode<TObject<Keys>>;
  }

  /** Of one key; undefined where it may be missing and is. */
  #value(path: readonly string[], schema: TProperties[string]): unknown {
    const setting = this.#settings.get(path.join('.'));
    const { must, default: fallback } = annotations(schema);
    const written = setting === undefined ? fallback : writtenIn(setting, schema);
    if (written === undefined) {
      if (Type.IsOptional(schema) || path.at(-1) === 'type') return undefined;
      throw new ConfigError(`${this.#where(path)}: missing; it must be ${must}`);
    }
    const decoded = decode(schema, written);
    if (decoded === null) throw new ConfigError(`${this.#where(path)}: must be ${must}`);
    return decoded.value;
  }

  /** The head of a message about a key: where it was set, or where it would be. */
  #where(path: readonly string[]): string {
    const setting = this.#settings.get(path.join('.'));
    return setting === undefined ? `${this.#place}: ${path.join('.')}` : place(setting);
  }

  /** The folder that a path is relative to. */
  #folder(path: readonly string[], unset: string): string {
    const origin = this.#settings.get(path.join('.'))?.origin.kind;
    if (origin === undefined) return unset;
    return origin === 'file' && this.#file !== null ? dirname(this.#file) : this.#cwd;
  }

  #sqliteFile(path: readonly string[], dsn: string): string {
    const file = sqlitePath(dsn);
    if (file === null) throw new Error(`${path.join('.')} was not checked`);
    return absolute(this.#folder(path, this.#file === null ? this.#cwd : dirname(this.#file)), file);
  }

  /**
   * The queue has a file to itself: SQLite has one writer a file, and a report of a million rows would hold
   * up every post and heartbeat; long reads keep its log from being cut; and tasks could read what other
   * jobs were asked. Two results backends on one file would sweep each other's tables. A source may well be
   * a results file: reports about results.
   */
  #checkFiles(config: Config): void {
    const taken = new Map<string, string>();
    const { store } = config;
    if (store.type === 'sqlite' && store.path !== MEMORY) {
      taken.set(identity(store.path), 'the store of the queue');
    }
    for (const [section, entries] of [
      ['results', config.results],
      ['db', config.db],
    ] as const) {
      for (const [name, entry] of Object.entries(entries)) {
        if (entry.type !== 'sqlite') continue;
        const file = identity(entry.path);
        const other = taken.get(file);
        if (other !== undefined && (section === 'results' || !other.startsWith('results.'))) {
          throw new ConfigError(
            `${this.#where([section, name, 'dsn'])}: the same file as ${other}; give each a file of its own`,
          );
        }
        if (section === 'results') taken.set(file, `results.${name}`);
      }
    }
  }
}

function writtenIn(setting: Setting, schema: TProperties[string]): unknown {
  const isText = setting.origin.kind !== 'file' && typeof setting.value === 'string';
  return isText ? fromText(schema, String(setting.value)) : setting.value;
}

/** Of two limits that may each be absent. */
function shorter(one: number | null, other: number | null): number | null {
  if (one === null || other === null) return one ?? other;
  return Math.min(one, other);
}
