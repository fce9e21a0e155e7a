/** A folder with a configuration, and what loading it gives. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Config, ResultsConfig, SourceConfig, StoreConfig } from '../../src/config/config.ts';
import { ConfigError } from '../../src/config/errors.ts';
import { loadConfig } from '../../src/config/load.ts';
import { tempFolder } from '../support/folder.ts';

/** What a server needs at least. */
export const DATABASES = `
[db.ledger]
type = "sqlite"
dsn = "sqlite:ledger.db"
[results.reports]
type = "sqlite"
dsn = "sqlite:results.db"
`;

export interface Given {
  /** config.toml; null: there is none. */
  readonly toml?: string | null;
  readonly argv?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Loaded {
  readonly folder: string;
  load(given: Given): Config;
  /** The message of the ConfigError that loading ends in. */
  message(given: Given): string;
}

/** Where a SQLite database is. */
export function pathOf(entry: StoreConfig | SourceConfig | ResultsConfig | undefined): string {
  assert.ok(entry?.type === 'sqlite');
  return entry.path;
}

export function place(t: TestContext): Loaded {
  const folder = tempFolder(t);
  const load = ({ toml = DATABASES, argv = [], env = {} }: Given) => {
    if (toml !== null) writeFileSync(join(folder, 'config.toml'), toml);
    return loadConfig({ argv, env, cwd: folder });
  };
  return {
    folder,
    load,
    message: (given) => {
      try {
        load(given);
      } catch (error) {
        assert.ok(error instanceof ConfigError, String(error instanceof Error ? error.stack : error));
        assert.doesNotMatch(error.message, /[\r\n]/, 'a message is one line');
        return error.message;
      }
      assert.fail('the configuration was accepted');
    },
  };
}
