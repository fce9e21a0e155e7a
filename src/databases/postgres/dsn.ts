/** How Postgres servers are named is the same for sources, results and the store of jobs. */
export * from '../../util/postgres/dsn.ts';
