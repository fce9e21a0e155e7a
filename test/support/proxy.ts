/** A TCP proxy between the product and a server: the network, to be broken by tests. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { afterOthers, type Scope } from './scope.ts';

export type Direction = 'toServer' | 'toClient';

interface Link {
  readonly client: Socket;
  readonly server: Socket;
}

export class TcpProxy {
  readonly host = '127.0.0.1';
  port = 0;
  /** How many bytes it has passed on, over all connections. */
  readonly bytes: Record<Direction, number> = { toServer: 0, toClient: 0 };
  /** How often the client has sent something after the server had, or first: round trips, of one connection. */
  turns = 0;
  #last: Direction = 'toClient';
  readonly #target: { readonly host: string; readonly port: number };
  readonly #links = new Set<Link>();
  readonly #limits: Record<Direction, number> = {
    toServer: Number.POSITIVE_INFINITY,
    toClient: Number.POSITIVE_INFINITY,
  };
  #listener: Server | undefined;
  #frozen = false;
  /** What has happened while nothing went through. */
  readonly #news: (() => void)[] = [];

  constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target;
  }

  /** How many connections go through it now. */
  get connections(): number {
    return this.#links.size;
  }

  /** The DSN of a server, with our address in place of its own. */
  through(dsn: string): string {
    const url = new URL(dsn);
    url.hostname = this.host;
    url.port = String(this.port);
    return url.href;
  }

  /** Takes connections (again, on the same port). */
  async listen(): Promise<void> {
    if (this.#listener !== undefined) return;
    const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) =>
      this.#link(client),
    );
    listener.listen(this.port, this.host);
    await once(listener, 'listening');
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
    this.port = address.port;
    this.#listener = listener;
  }

  /** New connections are refused from now on; those that are there stay. */
  refuse(): void {
    this.#listener?.close();
    this.#listener = undefined;
  }

  /** Resets every connection, to both sides. */
  cut(): void {
    for (const link of this.#links) this.#reset(link);
  }

  /**
   * Half-open: connections stay, new ones are taken, and nothing goes through; neither side learns that the
   * other has closed.
   */
  freeze(): void {
    this.#frozen = true;
    for (const { client, server } of this.#links) {
      client.pause();
      server.pause();
    }
  }

  thaw(): void {
    this.#frozen = false;
    for (const tell of this.#news.splice(0)) tell();
    for (const { client, server } of this.#links) {
      client.resume();
      server.resume();
    }
  }

  /** Passes that many bytes more in a direction, all connections together, and then resets every connection. */
  cutAfter(direction: Direction, bytes: number): void {
    this.#limits[direction] = this.bytes[direction] + bytes;
  }

  close(): void {
    this.refuse();
    this.cut();
  }

  #reset(link: Link): void {
    for (const socket of [link.client, link.server]) {
      // One that is just saying its goodbye cannot be reset: Node would then wait for it at its exit, for ever.
      if (socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
    this.#links.delete(link);
  }

  #link(client: Socket): void {
    const server = createConnection({ ...this.#target, allowHalfOpen: true, noDelay: true });
    client.setNoDelay(true);
    const link = { client, server };
    this.#links.add(link);
    this.#pass(link, client, server, 'toServer');
    this.#pass(link, server, client, 'toClient');
    if (this.#frozen) server.pause();
    else client.resume();
  }

  #pass(link: Link, from: Socket, to: Socket, direction: Direction): void {
    from.on('data', (chunk) => {
      const rest = this.#limits[direction] - this.bytes[direction];
      const passed = chunk.subarray(0, Math.max(0, rest));
      this.bytes[direction] += passed.length;
      if (direction === 'toServer' && this.#last === 'toClient') this.turns += 1;
      this.#last = direction;
      const flowing = to.write(passed, () => {
        if (this.bytes[direction] < this.#limits[direction]) return;
        this.#limits[direction] = Number.POSITIVE_INFINITY;
        this.cut();
      });
      if (!flowing) {
        from.pause();
        to.once('drain', () => {
          if (!this.#frozen) from.resume();
        });
      }
    });
    // A socket tells of its end and of errors also while it is paused.
    from.on('end', () => this.#passOn(() => to.end()));
    from.on('error', () => this.#passOn(() => this.#reset(link)));
    from.on('close', () => {
      if (link.client.destroyed && link.server.destroyed) this.#links.delete(link);
    });
  }

  #passOn(tell: () => void): void {
    if (this.#frozen) this.#news.push(tell);
    else tell();
  }
}

/** On a free port of the loopback interface, in front of `target`; closed after the test. */
export async function proxy(
  t: Scope,
  target: { readonly host?: string; readonly port: number },
): Promise<TcpProxy> {
  const made = new TcpProxy({ host: target.host ?? '127.0.0.1', port: target.port });
  t.after(() => made.thaw()); // so that what the test closes after this can say goodbye
  afterOthers(t, () => made.close());
  await made.listen();
  return made;
}
