/**
 * A TCP proxy in front of a MySQL server that knows where a command begins, and can stop before it or behind
 * it: what a server sees of a process that is killed, cut off, or put to sleep at that very place.
 */
import { connect, createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { closing } from '../support.ts';

/** Where and how to stop: before the command reaches the server, or when its answer begins to come. */
export interface Stop {
  /** Counted over all connections from 0, the handshakes not. */
  readonly command: number;
  readonly when: 'before' | 'after';
  /**
   * `die`: nothing goes through ever after, as if the client's process was killed. `cut`: its connection ends,
   * others do not. `sleep`: it stands still until `wake`.
   */
  readonly how: 'die' | 'cut' | 'sleep';
}

export interface CommandProxy {
  /** The server's DSN, by way of the proxy. */
  readonly dsn: string;
  /** Commands that came so far: their kind or text. */
  readonly commands: readonly string[];
  /** Resolves when it has stopped. */
  readonly stopped: Promise<void>;
  wake(): void;
}

const QUERY = 0x03;
const PREPARE = 0x16;

export async function commandProxy(t: TestContext, dsn: string, stop: Stop | null): Promise<CommandProxy> {
  const target = new URL(dsn);
  const commands: string[] = [];
  const stopped = Promise.withResolvers<void>();
  const awake = Promise.withResolvers<void>();
  const sockets = new Set<Socket>();
  let dead = false;

  const server = createServer((client) => {
    if (dead) {
      client.destroy();
      return;
    }
    const upstream = connect(Number(target.port), target.hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {}); // its 'close' follows
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    const end = () => {
      if (stop?.how === 'die') {
        dead = true;
        for (const socket of sockets) socket.destroy();
      }
      client.destroy();
      upstream.destroy();
      stopped.resolve();
    };
    let answering = false;
    upstream.on('data', (data) => {
      if (answering && stop?.how !== 'sleep') end();
      else if (answering) {
        answering = false;
        upstream.pause();
        stopped.resolve();
        void awake.promise.then(() => {
          client.write(data);
          upstream.resume();
        });
      } else if (!client.destroyed) client.write(data);
    });

    let held = Buffer.alloc(0);
    let forward = Promise.resolve();
    client.on('data', (data) => {
      held = Buffer.concat([held, data]);
      for (;;) {
        const length = held.length < 4 ? Number.POSITIVE_INFINITY : held.readUIntLE(0, 3) + 4;
        if (held.length < length) return;
        const packet = held.subarray(0, length);
        held = held.subarray(length);
        const isCommand = packet[3] === 0;
        const index = isCommand ? commands.push(nameOf(packet)) - 1 : -1;
        const here = stop !== null && stop.command === index;
        forward = forward.then(async () => {
          if (here && stop.when === 'before') {
            if (stop.how !== 'sleep') return end();
            stopped.resolve();
            await awake.promise;
          }
          if (here && stop.when === 'after') answering = true;
          upstream.write(packet);
        });
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing(t, async () => {
    awake.resolve();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  const url = new URL(dsn);
  url.hostname = '127.0.0.1';
  url.port = String(address.port);
  return { dsn: url.href, commands, stopped: stopped.promise, wake: () => awake.resolve() };
}

function nameOf(packet: Buffer): string {
  const kind = packet[4];
  const text = packet.toString('utf8', 5, 200);
  if (kind === QUERY) return text;
  return kind === PREPARE ? `prepare ${text}` : `command ${kind}`;
}
