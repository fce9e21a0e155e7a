/**
 * What a function that is called from outside runs with: its own schema, plans that read by index whatever the statistics
 * say (the tables that matter are empty at one time and huge at another), and no long waits for locks.
 */
const ENTRY = `
  SET search_path FROM CURRENT SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
  SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET lock_timeout = '5s'`;

/** A function that others call: it runs with what they run with. */
export function helper(signature: string, body: string): string {
  return `CREATE OR REPLACE FUNCTION ${signature} LANGUAGE plpgsql AS $function$\n#variable_conflict use_column\n${body}$function$;`;
}

/** A function that the store calls. */
export function entry(signature: string, body: string): string {
  return `CREATE OR REPLACE FUNCTION ${signature} LANGUAGE plpgsql ${ENTRY} AS $function$\n#variable_conflict use_column\n${body}$function$;`;
}
