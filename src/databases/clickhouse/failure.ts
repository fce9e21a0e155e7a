/** Errors of ClickHouse and the network as errors of ours. */

import { connectionText } from '../../util/tls.ts';
import { DatabaseError, type DatabaseErrorCode, isTlsRefusal, limitOfDatabase } from '../errors.ts';
import { redact } from '../redact.ts';

/** The marks in which the server quotes values. */
const QUOTES = ["'"];

/** The connection failed, or ended before the answer did. */
export class ConnectionFailure extends Error {
  static of(error: unknown): ConnectionFailure {
    if (error instanceof ConnectionFailure) return error;
    if (!(error instanceof Error)) return new ConnectionFailure(String(error));
    const message = connectionText(error);
    return new ConnectionFailure(message === 'aborted' ? 'the connection was lost' : message, {
      cause: error,
    });
  }
}

/** The answer ended, in good order as far as HTTP goes, without the proof that it is whole. */
export class CutShort extends Error {
  constructor() {
    super('the answer ended before all rows had come, and the server did not say why');
  }
}

/** What the server answered instead of a result. Its message may quote the query and values. */
export class ServerFailure extends Error {
  /** ClickHouse's error code; 0: the answer was not ClickHouse's. */
  readonly code: number;
  /** Of an answer that is not ClickHouse's. */
  readonly status: number;

  constructor(code: number, message: string, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }

  static ofAnswer(text: string, status: number): ServerFailure {
    return (
      parse(text) ??
      new ServerFailure(0, `answered HTTP ${status}, which is not how ClickHouse fails`, status)
    );
  }

  /** The error at the end of a text that should have been an answer; null: there is none. */
  static ofLastLine(text: string): ServerFailure | null {
    const [found] = [
      ...text.matchAll(
        /^(?:Code: \d+[.,] [^\t\n]*DB::(?:\w+)?Exception|(?:Poco::E|std::e)xception\. Code: \d+, )[^\t]*$/gm,
      ),
    ].slice(-1);
    return found === undefined ? null : parse(text.slice(found.index));
  }
}

/**
 * `Code: 62, e.displayText() = DB::Exception: Syntax error…, e.what() = DB::Exception` of old servers,
 * `Code: 62. DB::Exception: Syntax error…. (SYNTAX_ERROR) (version 24.8.1.1 (official build))` of new ones. What another
 * library threw reads `Poco::Exception. Code: 1000, e.code() = 111, e.displayText() = Connection refused, …`.
 */
function parse(text: string): ServerFailure | null {
  const [, code, message] =
    /^(?:(?:Poco|std)::\w+\. )?Code: (\d+)[.,] (?:e\.code\(\) = -?\d+, )?(?:e\.displayText\(\) = )?(?:DB::\w+: )?([\s\S]*)$/.exec(
      text.trim(),
    ) ?? [];
  if (code === undefined || message === undefined) return null;
  return new ServerFailure(Number(code), message);
}

/** ClickHouse's names for codes, https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp */
export const CODE = {
  UNKNOWN_DATABASE: 81,
  UNKNOWN_SETTING: 115,
  TIMEOUT_EXCEEDED: 159,
  READONLY: 164,
  QUERY_WAS_CANCELLED: 394,
} as const;

/** What may work later as it is. */
const UNAVAILABLE = new Set([
  32, // ATTEMPT_TO_READ_AFTER_EOF: a replica went away
  101, // UNEXPECTED_PACKET_FROM_CLIENT
  102, // UNEXPECTED_PACKET_FROM_SERVER
  192, // UNKNOWN_USER
  193, // WRONG_PASSWORD
  194, // REQUIRED_PASSWORD
  195, // IP_ADDRESS_NOT_ALLOWED
  198, // DNS_ERROR
  202, // TOO_MANY_SIMULTANEOUS_QUERIES
  203, // NO_FREE_CONNECTION
  209, // SOCKET_TIMEOUT
  210, // NETWORK_ERROR
  216, // QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
  225, // NO_ZOOKEEPER
  236, // ABORTED: the server is shutting down
  243, // NOT_ENOUGH_SPACE
  279, // ALL_CONNECTION_TRIES_FAILED
  369, // ALL_REPLICAS_ARE_STALE
  425, // SYSTEM_ERROR
  439, // CANNOT_SCHEDULE_TASK
  473, // DEADLOCK_AVOIDED
  516, // AUTHENTICATION_FAILED
  745, // SERVER_OVERLOADED
  999, // KEEPER_EXCEPTION
  1000, // POCO_EXCEPTION: a library's, of the network mostly
  1001, // STD_EXCEPTION
  1002, // UNKNOWN_EXCEPTION
]);
/** Of those: the login is not one that the server takes. */
const REFUSED = new Set([192, 193, 194, 195, 516]);
/** The query ran and was ended by something that may not be there the next time. */
const TRANSIENT = new Set([
  CODE.TIMEOUT_EXCEEDED as number,
  160, // TOO_SLOW
  201, // QUOTA_EXCEEDED
  CODE.QUERY_WAS_CANCELLED as number,
]);
/** The statement cannot be run as it is, by this user. */
const NOT_ALLOWED = new Set([
  291, // DATABASE_ACCESS_DENIED
  497, // ACCESS_DENIED
]);
/** Messages that quote values of rows: what could not be read as a number, a date, … */
const QUOTES_VALUES = new Set([
  6, 26, 27, 38, 41, 49, 53, 69, 70, 72, 117, 131, 190, 321, 351, 376, 407, 467, 675, 691,
]);
const MEMORY_LIMIT_EXCEEDED = 241;
const SYNTAX_ERROR = 62;

/** Whatever the arguments are: names that do not exist, rights that are missing, a text that is no statement. */
const OF_STATEMENT = new Set<number>([
  46,
  47,
  60,
  SYNTAX_ERROR,
  CODE.UNKNOWN_DATABASE,
  CODE.UNKNOWN_SETTING,
  CODE.READONLY,
  291,
  497,
]);

/** Whether other arguments could have helped. */
export function dependsOnArguments(error: unknown): error is ServerFailure {
  return (
    error instanceof ServerFailure && error.code !== 0 && !OF_STATEMENT.has(error.code) && !isTransient(error)
  );
}

function isTransient({ code }: ServerFailure): boolean {
  return UNAVAILABLE.has(code) || TRANSIENT.has(code) || code === MEMORY_LIMIT_EXCEEDED;
}

export interface Failing {
  /** How the message names the database, e.g. `db "ledger"`. */
  readonly database: string;
  /** What a mistake in the statement is called: checked, or run. */
  readonly doing: 'invalid_statement' | 'invalid_arguments' | 'query_failed';
  /** Values that must not be seen in the message. */
  readonly args?: readonly unknown[];
  /** What is to be said of the server's address, when nothing is heard from there; "" for nothing. */
  readonly address?: string;
}

/** Anything that a request rejects with, as an error of ours. Leaves what is one alone. */
export function failureOf(error: unknown, { database, doing, args = [], address = '' }: Failing): unknown {
  if (error instanceof ConnectionFailure) {
    return new DatabaseError('unavailable', `${database}: ${error.message}${address}`, {
      refused: isTlsRefusal(error.cause),
      cause: error.cause,
    });
  }
  if (error instanceof CutShort) {
    return new DatabaseError('query_failed', `${database}: ${error.message}`, { transient: true });
  }
  if (!(error instanceof ServerFailure)) return error;
  const [code, transient] = kindOf(error, doing);
  const limit = error.code === CODE.TIMEOUT_EXCEEDED ? limitOfDatabase('max_execution_time') : '';
  const suffix = error.code === 0 ? '' : `${limit} (code ${error.code})`;
  // Without a cause: the server's own text quotes the query and its arguments.
  return new DatabaseError(code, `${database}: ${safeMessage(error, args)}${suffix}`, {
    transient,
    refused: REFUSED.has(error.code),
  });
}

function kindOf(
  { code, status, message }: ServerFailure,
  doing: Failing['doing'],
): readonly [DatabaseErrorCode, transient: boolean] {
  if (code === 0) return ['unavailable', status >= 500 || status === 429 || status === 408];
  if (UNAVAILABLE.has(code)) return ['unavailable', true];
  if (TRANSIENT.has(code)) return ['query_failed', true];
  // A query's own limit is the same the next time; what all queries have together is not.
  if (code === MEMORY_LIMIT_EXCEEDED) return ['query_failed', /\(total\)|\((?:for )?user\)/.test(message)];
  if (code === CODE.READONLY) return ['invalid_statement', false];
  if (NOT_ALLOWED.has(code)) return ['query_failed', false];
  return [doing, false];
}

/** The server's message in one line, without the query, values of rows or arguments. */
function safeMessage({ code, message }: ServerFailure, args: readonly unknown[]): string {
  // The rest of it is the query from there on, and the whole grammar of what could have stood there.
  if (code === SYNTAX_ERROR) {
    return `${message.split(':', 1)[0]}${lineOf(message)}${args.length === 0 ? placeOf(message) : ''}`;
  }
  const plain = message
    .replace(/,? Stack trace[\s\S]*$/, '')
    .replace(/, e\.what\(\) = [\s\S]*$/, '')
    // Old servers say some errors twice.
    .replace(/: Code: \d+, e\.displayText\(\) = [\s\S]*$/, '')
    .replace(/(?<!\s)\s*\(version [\s\S]*$/, '')
    // What follows quotes the query, up to the error's name.
    .replace(
      /(?:[:.,]|(?<!\s))\s*(?:while processing|while executing|in query|in scope)\b[\s\S]*?(?=(?: \([A-Z_]+\))?$)/i,
      '',
    )
    .replace(/\s+/g, ' ')
    .trim();
  const safe = QUOTES_VALUES.has(code) ? withoutTail(plain.replace(/'[^']*(?:'|$)/g, "'…'")) : plain;
  return redact(safe, args, QUOTES).slice(0, 1000);
}

/** Without the value that ends a message: a UUID, or what stands behind the last colon. */
function withoutTail(message: string): string {
  const at = message.indexOf(' uuid ', message.lastIndexOf("'") + 1);
  return at < 0 ? message.replace(/: [^:'…]*$/, '') : message.slice(0, at);
}

/** Of the task's query, whose first line is the first of what was sent. */
function lineOf(message: string): string {
  const [, line] = /\(line (\d+), col \d+\)/.exec(message) ?? [];
  return line === undefined ? '' : ` at line ${line}`;
}

const MOST_SHOWN = 40;

/** What stands where the grammar was left, a few words of it. Behind the query comes what was put there by us. */
function placeOf(message: string): string {
  const [, rest = ''] = /failed at position \d+[^:\n]*: ([^\n]*)/.exec(message) ?? [];
  const near = rest.split('. Expected one of', 1)[0]?.trim() ?? '';
  if (near === '' || near.startsWith(')')) return ', at the end of it or of what is in parentheses';
  return `, near "${near.length > MOST_SHOWN ? `${near.slice(0, MOST_SHOWN)}…` : near}"`;
}
