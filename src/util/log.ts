/** The log: one JSON object a line, on standard output. */
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';

export type { Logger };

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  /** Absent: standard output. */
  readonly destination?: DestinationStream;
}

/** Keys whose values are secrets, or may hold one, down to the depth at which a configuration has them. */
const SECRETS = ['dsn', 'password', 'authorization', 'cookie'];
const DEPTH = 4;

/** A logger whose lines have the time in ISO 8601 (UTC), the level by name, and errors under `err`. */
export function createLogger({ level, destination }: LogOptions): Logger {
  const options = {
    level,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: errorLine },
    redact: {
      paths: SECRETS.flatMap((key) =>
        Array.from({ length: DEPTH }, (_, depth) => [...Array(depth).fill('*'), key].join('.')),
      ),
      censor: '[redacted]',
    },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
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
  if (!(error instanceof Error)) return { name: typeof error, message: String(error) };
  const { code } = error as NodeJS.ErrnoException;
  const inner = depth < MOST_CAUSES;
  return {
    name: error.name,
    message: error.message,
    ...(typeof code === 'string' ? { code } : {}),
    ...(error.stack === undefined ? {} : { stack: error.stack }),
    ...(inner && error.cause !== undefined ? { cause: errorLine(error.cause, depth + 1) } : {}),
    ...(inner && error instanceof AggregateError
      ? { errors: error.errors.slice(0, MOST_CAUSES).map((one) => errorLine(one, depth + 1)) }
      : {}),
  };
}
