/** The configuration file: TOML, read whole. */
import { readFileSync } from 'node:fs';
import { parse, TomlError } from 'smol-toml';
import { ConfigError } from './errors.ts';

/** The parsed file; null if there is none. `shown` is its name in messages. */
export function readToml(path: string, shown: string): Readonly<Record<string, unknown>> | null {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    const why =
      code === 'EISDIR'
        ? 'it is a folder'
        : code === 'EACCES'
          ? 'permission denied'
          : (code ?? 'unknown error');
    throw new ConfigError(`${shown}: cannot be read: ${why}`, { cause: error });
  }
  let toml: string;
  try {
    toml = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ConfigError(`${shown}: is not UTF-8 text; save it as UTF-8`);
  }
  try {
    return parse(toml);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // Only the first line of the parser's message, a constant: the rest quotes the file, passwords and all.
    // For the same reason the error is not kept as a cause.
    const [first = ''] = error.message.split('\n');
    const reason = first.replace(/^Invalid TOML document: /, '');
    throw new ConfigError(`${shown}: line ${error.line}, column ${error.column}: ${reason}`);
  }
}
