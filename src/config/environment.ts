/** Settings from the environment: `DUNGBEETLE_`, then the key's path with `__` for each dot, in any case. */
import { ConfigError } from './errors.ts';
import { place, type Setting } from './settings.ts';

const PREFIX = 'DUNGBEETLE_';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface EnvironmentSettings {
  /** DUNGBEETLE_CONFIG: the file to read. */
  readonly config: string | null;
  readonly settings: readonly Setting[];
}

/**
 * Reads every DUNGBEETLE_ variable. Names of entries are matched with those of the file without regard to
 * case, and "_" matches "-" too, since a shell's variables have neither; a name that the file lacks makes a
 * new entry, in lower case.
 */
export function environmentSettings(env: Environment, file: readonly Setting[]): EnvironmentSettings {
  const settings: Setting[] = [];
  const seen = new Map<string, string>();
  let config: string | null = null;
  for (const [variable, value] of Object.entries(env)) {
    if (value === undefined || !variable.toUpperCase().startsWith(PREFIX)) continue;
    if (isServiceLink(variable, value)) continue;
    const path = variable.slice(PREFIX.length).toLowerCase().split('__');
    const setting: Setting = { path, value, origin: { kind: 'environment', variable } };
    const key = path.join('.');
    const other = seen.get(key);
    if (other !== undefined) {
      throw new ConfigError(`${place(setting)}: ${other} sets the same key; drop one of them`);
    }
    seen.set(key, variable);
    if (key === 'config') config = value;
    else settings.push({ ...setting, path: nameAsInFile(setting, file) });
  }
  return { config, settings };
}

/**
 * Kubernetes gives every container DUNGBEETLE_SERVICE_HOST, DUNGBEETLE_PORT and the like when there is a
 * service called "dungbeetle" (or "dungbeetle-…"): they are no configuration. Nobody means them as such:
 * the values of the PORT ones are URLs.
 */
function isServiceLink(variable: string, value: string): boolean {
  const name = variable.slice(PREFIX.length);
  return (
    /^(?:[A-Z0-9_]+_)?SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)$/.test(name) ||
    (/^(?:[A-Z0-9_]+_)?PORT(?:_[0-9]+_(?:TCP|UDP|SCTP))?$/.test(name) &&
      /^(?:tcp|udp|sctp):\/\//.test(value)) ||
    /^(?:[A-Z0-9_]+_)?PORT_[0-9]+_(?:TCP|UDP|SCTP)_(?:PROTO|PORT|ADDR)$/.test(name)
  );
}

function nameAsInFile(setting: Setting, file: readonly Setting[]): readonly string[] {
  const [section, name, ...rest] = setting.path;
  if ((section !== 'db' && section !== 'results') || name === undefined) return setting.path;
  const plain = (text: string) => text.toLowerCase().replaceAll('-', '_');
  const names = new Set(
    file.flatMap(({ path }) => (path[0] === section && path[1] !== undefined ? [path[1]] : [])),
  );
  const matches = [...names].filter((other) => plain(other) === plain(name));
  if (matches.length > 1) {
    throw new ConfigError(
      `${place(setting)}: it could mean ${matches.map((match) => `${section}.${match}`).join(' or ')}; rename one of them in the file`,
    );
  }
  return [section, matches[0] ?? name, ...rest];
}
