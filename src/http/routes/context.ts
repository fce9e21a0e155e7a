import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { Queue } from '../../queue/queue.ts';
import type { ReportService } from '../../reports/service.ts';
import type { LongAnswers } from '../answers.ts';
import type { Connections } from '../connections.ts';

/** A Fastify instance whose routes are typed by their schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** What the routes call. */
export interface RouteContext {
  readonly queue: Queue;
  readonly reports: ReportService;
  readonly connections: Connections;
  readonly answers: LongAnswers;
  readonly cancel_wait_ms: number;
  readonly health_wait_ms: number;
  readonly ready: readonly string[];
  /** Whether the process lets its jobs end, to end itself. */
  isDraining(): boolean;
}
