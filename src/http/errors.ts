/** Every error the API answers with, and how errors from below become one of them. */
import { QueueError, type QueueErrorCode } from '../queue/errors.ts';
import { ReportError } from '../reports/report.ts';

/**
 * The catalog: code, HTTP status, and the message where nothing more exact is known. A code has one status
 * for ever. docs/api.md lists the same table; a test compares them.
 */
export const CATALOG = {
  invalid_request: { status: 400, message: 'the request is not valid' },
  forbidden: { status: 403, message: 'a web page of another site may not use this server' },
  unknown_task: { status: 404, message: 'there is no such task' },
  unknown_job: { status: 404, message: 'there is no such job' },
  unknown_group: { status: 404, message: 'there is no such group' },
  unknown_queue: { status: 404, message: 'there is no such queue' },
  not_found: { status: 404, message: 'there is no such route' },
  job_active: { status: 409, message: 'the job is already queued or running' },
  job_finished: { status: 409, message: 'the job is already finished' },
  too_large: { status: 413, message: 'the request is too large' },
  queue_full: { status: 429, message: 'the queue takes no more jobs for now' },
  internal: { status: 500, message: 'the server failed to handle the request; its log has the details' },
  unavailable: { status: 503, message: 'the server cannot do this for now' },
} as const satisfies Record<string, { readonly status: number; readonly message: string }>;

export type ErrorCode = keyof typeof CATALOG;

/** Seconds after which to try again, for the codes that say so. */
export const RETRY_AFTER: Readonly<Partial<Record<ErrorCode, number>>> = {
  // Long enough that a full queue has moved, short enough that a client which waits is not idle for long.
  queue_full: 1,
  // A store that restarts or fails over is back within seconds.
  unavailable: 5,
};

/** An error answer. The message goes to the client as it is: no stack, no SQL, no DSN. */
export class ApiError extends Error {
  readonly code: ErrorCode;
  /** Fastify reads it. */
  readonly statusCode: number;

  constructor(code: ErrorCode, message: string = CATALOG[code].message, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ApiError';
    this.code = code;
    this.statusCode = CATALOG[code].status;
  }
}

export interface ErrorBody {
  readonly status: 'error';
  readonly message: string;
  readonly code: ErrorCode;
  readonly data: null;
}

export function errorBody(error: ApiError): ErrorBody {
  return { status: 'error', message: error.message, code: error.code, data: null };
}

const QUEUE_ERRORS: Readonly<Record<QueueErrorCode, ErrorCode>> = {
  job_active: 'job_active',
  job_finished: 'job_finished',
  unknown_job: 'unknown_job',
  group_active: 'job_active',
  group_finished: 'job_finished',
  unknown_group: 'unknown_group',
  invalid_job: 'invalid_request',
  invalid_cursor: 'invalid_request',
  // Only workers hold leases: a request that meets this has found a bug.
  lease_lost: 'internal',
  queue_full: 'queue_full',
  store_unavailable: 'unavailable',
};

/** The answer for whatever was thrown. What nobody foresaw is `internal`, with the cause for the log. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof ReportError) return new ApiError(error.code, error.message, { cause: error });
  if (error instanceof QueueError) {
    const code = QUEUE_ERRORS[error.code];
    if (code === 'internal') return new ApiError(code, undefined, { cause: error });
    // The reason a store gives may hold a path or an address.
    if (code === 'unavailable') {
      return new ApiError(code, 'the job store is unavailable for now; try again', { cause: error });
    }
    return new ApiError(code, error.message, { cause: error });
  }
  const { code, statusCode } = (error ?? {}) as { code?: unknown; statusCode?: unknown };
  if (code === 'FST_ERR_BAD_URL') {
    return new ApiError('invalid_request', 'the path is not valid percent-encoded UTF-8', { cause: error });
  }
  // What Fastify or Node found wrong with the request itself, such as a body cut short.
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new ApiError('invalid_request', undefined, { cause: error });
  }
  return new ApiError('internal', undefined, { cause: error });
}
