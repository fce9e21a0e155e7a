/** Starts the servers of a run: those that no environment variable names. */
import { join } from 'node:path';
import { type Engine, skipVariable } from './engine.ts';
import { createHome, type Home, removeHome } from './home.ts';
import { install } from './install.ts';
import { PGBOUNCER } from './pgbouncer.ts';
import { createServer, type Server } from './server.ts';

export interface Started {
  /** For the tests: what test/support/services.ts reads. */
  readonly environment: Record<string, string>;
  stop(): Promise<void>;
}

/** `say` gets a line for people about each server. Ends what it has started if one fails. */
export async function startServers(
  say: (line: string) => void,
  signal: AbortSignal,
  engines: readonly Engine[],
): Promise<Started> {
  const home = createHome();
  const servers: Server[] = [];
  const environment: Record<string, string> = { TEST_SERVERS_FOLDER: home.folder };
  const stop = async () => {
    await Promise.all(servers.map((server) => server.abandon()));
    removeHome(home);
  };
  const skip = (engine: Engine, reason: string) => {
    environment[skipVariable(engine.variable)] = reason;
    say(`${engine.name} is missing: ${reason}`);
  };
  const own = engines.filter((engine) => {
    const { [engine.variable]: dsn, [skipVariable(engine.variable)]: reason } = process.env;
    if (dsn) {
      environment[engine.variable] = dsn;
      say(`${engine.name} named by ${engine.variable}`);
    } else if (reason) skip(engine, reason);
    return !dsn && !reason;
  });
  const startOne = async (engine: Engine) => {
    const begun = performance.now();
    const server = await started(home, engine, servers, signal);
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    say(`${engine.name} ${server.version} on 127.0.0.1:${server.port}, ${seconds} s`);
    environment[engine.variable] = server.dsn;
  };
  try {
    const missing = await install(own, say, signal);
    for (const [engine, reason] of missing) skip(engine, reason);
    for (const [program, reason] of await install([PGBOUNCER], say, signal)) {
      environment[program.variable] = reason;
      say(`${program.name} is missing: ${reason}`);
    }
    const results = await Promise.allSettled(own.filter((engine) => !missing.has(engine)).map(startOne));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    signal.throwIfAborted();
  } catch (error) {
    await stop();
    throw error;
  }
  return { environment, stop };
}

async function started(home: Home, engine: Engine, servers: Server[], signal: AbortSignal): Promise<Server> {
  for (let attempt = 1; ; attempt += 1) {
    const folder = join(home.folder, `${engine.name}-${attempt}`);
    const server = await createServer(home, engine, { folder });
    signal.throwIfAborted();
    servers.push(server);
    try {
      await server.start();
      return server;
    } catch (error) {
      // Somebody may have taken the port since we looked.
      if (attempt === 3 || !/in use/i.test(String(error))) throw error;
    }
  }
}
