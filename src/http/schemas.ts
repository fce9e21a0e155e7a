/** The shapes of the wire: what requests may hold, and what answers do. They validate and they type. */
import { type Static, type TSchema, Type } from 'typebox';
import { LONGEST_NAME } from '../queue/check.ts';

/** The most jobs of a group. More would be one long write of the store. */
export const MAX_GROUP_JOBS = 10_000;

/** The most jobs that one job may wait for. */
const MAX_PARENTS = 1_000;

/** The most arguments of a job: no engine's statement takes more. */
const MAX_ARGS = 65_535;

/** What counts and seconds may be at most: they fit every engine's integers, and dates stay dates. */
const MAX_INTEGER = 2_147_483_647;
const MAX_SECONDS = 1_000_000_000;

/**
 * A field that may be left out, be null, or be its type's blank: the Go client sends every field always.
 * Its description is what messages tell of it, after the word "must".
 */
function optional<T extends TSchema>(schema: T, description: string) {
  return Type.Optional(Type.Union([schema, Type.Null()], { description }));
}

const ID = 'be 1 to 128 of A-Z a-z 0-9 _ : -';
const ID_PATTERN = '^[A-Za-z0-9_:-]{1,128}$';
const optionalId = () => optional(Type.String({ pattern: '^[A-Za-z0-9_:-]{0,128}$' }), ID);

const NAME = `be 1 to ${LONGEST_NAME} characters, none of them a control character`;
const nameOf = (least: 0 | 1) => `^[^\\x00-\\x1f\\x7f-\\x9f]{${least},${LONGEST_NAME}}$`;

const Args = optional(
  Type.Array(Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()]), { maxItems: MAX_ARGS }),
  `be a list of at most ${MAX_ARGS} strings, numbers, booleans and nulls`,
);

/** Of something that the configuration names: a longer text is none of them, and is not repeated in messages. */
const named = Type.String({ pattern: `^[^]{0,${LONGEST_NAME}}$` });

const jobFields = {
  job_id: optionalId(),
  task: optional(named, 'be the name of a task'),
  queue: optional(Type.String({ pattern: nameOf(0) }), NAME),
  eta: optional(
    Type.String(),
    'be a time that exists, as "yyyy-mm-dd hh:mm:ss" in UTC or in RFC 3339 with its offset',
  ),
  retries: optional(
    Type.Integer({ minimum: 0, maximum: MAX_INTEGER }),
    `be a whole number from 0 to ${MAX_INTEGER}`,
  ),
  ttl: optional(
    Type.Integer({ minimum: 0, maximum: MAX_SECONDS }),
    `be a whole number of seconds from 0 (not given) to ${MAX_SECONDS}`,
  ),
  args: Args,
  db: optional(named, 'be the name of one of the databases of the task'),
  results: optional(named, 'be the name of one of the results backends of the task'),
  priority: optional(
    Type.Integer({ minimum: -MAX_INTEGER, maximum: MAX_INTEGER }),
    `be a whole number from -${MAX_INTEGER} to ${MAX_INTEGER}`,
  ),
  timeout: optional(
    Type.Number({ minimum: 0, maximum: MAX_SECONDS }),
    `be a number of seconds from 0 (not given) to ${MAX_SECONDS}`,
  ),
  key: optional(Type.String({ pattern: nameOf(0) }), NAME),
  after: optional(
    Type.Array(Type.String({ pattern: ID_PATTERN }), { maxItems: MAX_PARENTS }),
    `be a list of at most ${MAX_PARENTS} job ids`,
  ),
  on_failure: optional(Type.Enum(['run', 'cancel', '']), 'be "run" or "cancel"'),
};

export const JobRequest = Type.Object(jobFields, { additionalProperties: false });
export type JobRequest = Static<typeof JobRequest>;

export const GroupRequest = Type.Object(
  {
    group_id: optionalId(),
    concurrency: optional(
      Type.Integer({ minimum: 0, maximum: MAX_INTEGER }),
      `be a whole number from 0 (no limit) to ${MAX_INTEGER}`,
    ),
    jobs: Type.Array(JobRequest, {
      minItems: 1,
      maxItems: MAX_GROUP_JOBS,
      description: `be a list of 1 to ${MAX_GROUP_JOBS} job requests`,
    }),
  },
  { additionalProperties: false },
);
export type GroupRequest = Static<typeof GroupRequest>;

/** The body of a request that says everything in its path. */
export const NoRequest = Type.Object({}, { additionalProperties: false });

const id = () => Type.String({ pattern: ID_PATTERN, description: ID });
export const JobParams = Type.Object({ job_id: id() });
export const GroupParams = Type.Object({ group_id: id() });
export const TaskParams = Type.Object({ task: Type.String() });
export const QueueParams = Type.Object({ queue: Type.String() });
/** Of a queue that is changed: one of a name that no job can have would be a slip. */
export const NamedQueueParams = Type.Object({
  queue: Type.String({ pattern: nameOf(1), description: NAME }),
});

const STATES = ['PENDING', 'STARTED', 'RETRY', 'SUCCESS', 'FAILURE', 'CANCELLED'] as const;
const State = Type.Enum(STATES);

const boolean = Type.Optional(
  Type.String({
    pattern: '^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False|)$',
    description: 'be true or false',
  }),
);
const count = (most: number) =>
  Type.Optional(Type.String({ pattern: '^[0-9]{1,9}$', description: `be a whole number from 1 to ${most}` }));
const text = (description: string) => Type.Optional(Type.String({ description }));

/** The most jobs a page of the list may hold, and how many it holds when nobody says. */
export const LIST_LIMIT = { most: 1000, usual: 100 };
/** The same for the jobs that wait in a queue. */
export const PENDING_LIMIT = { most: 10_000, usual: 1000 };

// A slip in the name of a parameter is told: "?prune=true" would cancel where it was to purge.
const parameters = <P extends Record<string, TSchema>>(properties: P) =>
  Type.Object(properties, { additionalProperties: false });

export const TasksQuery = parameters({ sql: boolean });
export const PurgeQuery = parameters({ purge: boolean });
export const WaitQuery = parameters({
  wait: text('be a duration such as 30s, or seconds, above 0 and at most 60s'),
});
export const PendingQuery = parameters({ limit: count(PENDING_LIMIT.most) });
export const ListQuery = parameters({
  state: Type.Optional(
    Type.Union([State, Type.Literal('')], { description: `be one of ${STATES.join(', ')}` }),
  ),
  task: text('be the name of a task'),
  queue: text('be the name of a queue'),
  group: text('be the id of a group'),
  limit: count(LIST_LIMIT.most),
  cursor: text('be the cursor of the page before'),
});

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const Time = Type.String({ format: 'date-time' });

/** The answer to a post. `task_name` is what the documents of DungBeetle call `task`. */
export const PostedView = Type.Object(
  {
    job_id: Type.String(),
    task: Type.String(),
    task_name: Type.String(),
    queue: Type.String(),
    eta: nullable(Time),
    retries: Type.Integer(),
  },
  { additionalProperties: false },
);
export type PostedView = Static<typeof PostedView>;

export const ResultView = Type.Object(
  {
    backend: Type.String(),
    table: Type.String(),
    columns: Type.Array(
      Type.Object(
        { name: Type.String(), type: Type.String(), source_type: Type.String() },
        { additionalProperties: false },
      ),
    ),
    rows: Type.Integer(),
    bytes: Type.Integer(),
    expires_at: nullable(Time),
    warnings: Type.Array(Type.String()),
  },
  { additionalProperties: false },
);
export type ResultView = Static<typeof ResultView>;

const viewFields = {
  job_id: Type.String(),
  task: Type.String(),
  queue: Type.String(),
  state: State,
  status: State,
  count: Type.Integer(),
  results: Type.Array(Type.Object({ Type: Type.Literal('int64'), Value: Type.Integer() })),
  error: Type.String(),
  progress: nullable(Type.Object({ rows: Type.Integer(), bytes: Type.Integer(), phase: Type.String() })),
  group_id: nullable(Type.String()),
  attempt: Type.Integer(),
  retries: Type.Integer(),
  priority: Type.Integer(),
  key: nullable(Type.String()),
  after: Type.Array(Type.String()),
  on_failure: nullable(Type.Enum(['run', 'cancel'])),
  db: nullable(Type.String()),
  backend: nullable(Type.String()),
  ttl: nullable(Type.Number()),
  timeout: nullable(Type.Number()),
  eta: nullable(Time),
  created_at: Time,
  started_at: nullable(Time),
  finished_at: nullable(Time),
  queue_ms: nullable(Type.Integer()),
  run_ms: nullable(Type.Integer()),
  worker: nullable(Type.String()),
  cancel_requested: Type.Boolean(),
  result: nullable(ResultView),
};

/** A job in a list or a group. Argument values are shown in its own status only. */
export const JobView = Type.Object(viewFields, { additionalProperties: false });
export type JobView = Static<typeof JobView>;

/** A job's own status. */
export const JobStatusView = Type.Object({ ...viewFields, args: Args }, { additionalProperties: false });
export type JobStatusView = Static<typeof JobStatusView>;

export const GroupView = Type.Object(
  {
    group_id: Type.String(),
    state: Type.Enum(['PENDING', 'STARTED', 'SUCCESS', 'FAILURE', 'CANCELLED']),
    jobs: Type.Array(JobView),
  },
  { additionalProperties: false },
);
export type GroupView = Static<typeof GroupView>;

export const PostedGroupView = Type.Object(
  { group_id: Type.String(), jobs: Type.Array(PostedView) },
  { additionalProperties: false },
);
export type PostedGroupView = Static<typeof PostedGroupView>;

export const JobPageView = Type.Object(
  { jobs: Type.Array(JobView), cursor: nullable(Type.String()) },
  { additionalProperties: false },
);
export type JobPageView = Static<typeof JobPageView>;

export const TaskView = Type.Object(
  {
    name: Type.String(),
    queue: Type.String(),
    concurrency: Type.Integer(),
    db: Type.Array(Type.String()),
    results: Type.Array(Type.String()),
    timeout: nullable(Type.Number()),
    ttl: nullable(Type.Number()),
    max_rows: nullable(Type.Integer()),
    max_bytes: nullable(Type.Integer()),
    max_value_bytes: Type.Integer(),
    /** The query, if it was asked for. */
    raw: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
);
export type TaskView = Static<typeof TaskView>;

export const QueueView = Type.Object(
  {
    queue: Type.String(),
    paused: Type.Boolean(),
    counts: Type.Object(Object.fromEntries(STATES.map((state) => [state, Type.Integer()])), {
      additionalProperties: false,
    }),
    oldest_ready_ms: nullable(Type.Integer()),
  },
  { additionalProperties: false },
);
export type QueueView = Static<typeof QueueView>;

export const PausedView = Type.Object(
  { queue: Type.String(), paused: Type.Boolean() },
  { additionalProperties: false },
);
export type PausedView = Static<typeof PausedView>;

export const LimitView = Type.Object(
  {
    db: Type.String(),
    concurrency: nullable(Type.Integer()),
    running: Type.Integer(),
    waiting: Type.Integer(),
  },
  { additionalProperties: false },
);
export type LimitView = Static<typeof LimitView>;
