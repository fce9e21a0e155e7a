/** What the test tools know of a kind of server. One more is a file beside this one and a line in engines.ts. */
import type { Account } from './accounts.ts';
import type { Released } from './release.ts';

export type ServerName =
  | 'postgres-15'
  | 'postgres-18'
  | 'mysql'
  | 'mariadb'
  | 'mariadb-11'
  | 'clickhouse'
  | 'redis'
  | 'valkey';

export const USER = 'dungbeetle';
export const DATABASE = 'tests';

/** Certificates of a server with TLS: paths of PEM files that the server can read. */
export interface Certificates {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** One server to be: where, as whom, with what. */
export interface Place {
  /** The folder of its programs. */
  readonly programs: string;
  /** Its own folder, for its configuration and sockets. */
  readonly folder: string;
  /** Its data folder. */
  readonly data: string;
  readonly port: number;
  readonly password: string;
  readonly as: Account | null;
  /** Settings in the server's own words, on top of ours. */
  readonly settings: Readonly<Record<string, string>>;
  readonly certificates?: Certificates;
}

/** What can be installed. */
export interface Program {
  readonly name: string;
  /** The environment variable with the reason why there is none; for an engine the one that names a server. */
  readonly variable: string;
  /** Debian's package that has it, of the machine's own release or of another; null where npm brings it. */
  readonly package: string | Released | null;
  /** The folder of its programs on this machine, or null. */
  find(): string | null;
}

export interface Engine extends Program {
  readonly name: ServerName;
  /** One more generation of a server: in a run that asks for all of them, not in every run. */
  readonly isExtra?: true;
  /** The environment variable that names a server to use instead of one of ours. */
  readonly variable: string;
  /** The accounts it may run as when we are root. */
  readonly accounts: readonly string[];
  /** Makes a data folder, empty of databases; the same for every server of a run, which begin with copies of it. */
  prepare?(place: Omit<Place, 'port' | 'settings'>): Promise<void>;
  /** The command line that runs it in the foreground. May write files into the folder. */
  command(place: Place): { program: string; args: readonly string[] };
  dsn(place: Pick<Place, 'port' | 'password'>): string;
  /** Its version, once it answers; rejects while it does not. Makes the DSN's database if it is not there. */
  answer(place: Place): Promise<string>;
  /** The signal that has it end in order, at once, whoever is still connected. */
  readonly stop: NodeJS.Signals;
  /** The signal for a server whose data nobody wants any more. */
  readonly abandon: NodeJS.Signals;
  /** Removes what a killed server has left outside its folders. */
  cleanUp?(place: Place): Promise<void>;
}

/** The variable that has the reason why there is none: TEST_MARIADB_SKIP beside TEST_MARIADB_DSN. */
export function skipVariable(variable: string): string {
  return variable.replace(/_(DSN|URL)$/, '_SKIP');
}
