/** The log: one JSON object a line, on standard output. */
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import { printable } from './printable.ts';

export type { Logger };

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  /** Absent: standard output. */
  readonly destination?: DestinationStream;
}

/** Keys whose values are secrets, or may hold one, down to the depth at which a configuration has them. */
const SECRETS: ReadonlySet<string> = new Set(['dsn', 'password', 'authorization', 'cookie']);
const DEPTH = 4;
const REDACTED = '[redacted]';

/** A logger whose lines have the time in ISO 8601 (UTC), the level by name, and errors under `err`. */
export function createLogger({ level, destination = standardOutput() }: LogOptions): Logger {
  const options = {
    level,
    timestamp: stdTimeFunctions.isoTime,
    // Not by pino's `redact`: for paths with wildcards that takes ten times as long as the line.
    formatters: { level: (label: string) => ({ level: label }), log: withoutSecrets },
    serializers: { err: errorLine },
  };
  const logger = pino(options, destination);
  const { child } = logger;
  // Its formatters see the fields of lines alone.
  logger.child = function (this: Logger, bindings, more) {
    return child.call(this, withoutSecrets(bindings), more);
  } as Logger['child'];
  return logger;
}

/**
 * One write for all lines of a turn of the event loop: busy servers log several, and a write costs more than making
 * them. What ends the process at once (SIGKILL) may take the lines of its last turn along.
 */
function standardOutput(): DestinationStream {
  const output = pino.destination(process.stdout.fd);
  let lines = '';
  const flush = () => {
    const text = lines;
    lines = '';
    if (text !== '') output.write(text);
  };
  process.once('exit', flush);
  return {
    write(line) {
      if (lines === '') setImmediate(flush);
      lines += line;
    },
  };
}

type Fields = Record<string, unknown>;

/** The same object where it holds none. */
function withoutSecrets(fields: Fields, depth = 1): Fields {
  let shown = fields;
  for (const [key, value] of Object.entries(fields)) {
    const safe = SECRETS.has(key)
      ? REDACTED
      : hasFields(value) && depth < DEPTH
        ? withoutSecrets(value, depth + 1)
        : value;
    if (safe !== value)
      shown = Object.assign(Array.isArray(shown) ? [...shown] : { ...shown }, { [key]: safe });
  }
  return shown;
}

/** Of errors only what `errorLine` takes is shown. */
function hasFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !(value instanceof Error);
}

/** An error as the log shows it. */
export interface ErrorLine {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly cause?: ErrorLine;
  readonly errors?: readonly ErrorLine[];
}

/** Causes further down are not shown, so that errors which cause each other come to an end. */
const MOST_CAUSES = 5;

/**
 * Name, message, code and stack, the causes likewise. Nothing else that an error carries: a driver's error
 * may hold the statement and its arguments.
 */
export function errorLine(error: unknown, depth = 0): ErrorLine {
  if (!(error instanceof Error)) return { name: typeof error, message: printable(String(error)) };
  const { code } = error as NodeJS.ErrnoException;
  const inner = depth < MOST_CAUSES;
  return {
    name: error.name,
    message: printable(error.message),
    ...(typeof code === 'string' ? { code } : {}),
    ...(error.stack === undefined ? {} : { stack: printable(error.stack) }),
    ...(inner && error.cause !== undefined ? { cause: errorLine(error.cause, depth + 1) } : {}),
    ...(inner && error instanceof AggregateError
      ? { errors: error.errors.slice(0, MOST_CAUSES).map((one) => errorLine(one, depth + 1)) }
      : {}),
  };
}
