/** What happens to the processes and the store of a chaos run. */

import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { redis } from '../../scripts/services/redis-client.ts';
import { type PrivateServer, setReadOnly } from '../support/private-server.ts';
import type { World } from './world.ts';

/** Every so often a worker is killed, and the store is hurt, ms. */
const KILL_MS = 3_000;
const HURT_MS = 20_000;

export interface Outage {
  readonly what: string;
  readonly from: number;
  to: number;
}

export class Faults {
  kills = 0;
  readonly outages: Outage[] = [];
  readonly #world: World;
  readonly #say: (line: string) => void;
  readonly #onKill: (worker: string) => void;
  readonly #over = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  constructor(world: World, say: (line: string) => void, onKill: (worker: string) => void) {
    this.#world = world;
    this.#say = say;
    this.#onKill = onKill;
  }

  start(): void {
    this.#running = Promise.all([this.#kill(), this.#hurt()]);
  }

  /** Resolves when all is whole again. */
  async stop(): Promise<void> {
    this.#over.abort();
    await this.#running;
  }

  async #kill(): Promise<void> {
    const { workers } = this.#world;
    while (await this.#pause(KILL_MS)) {
      const worker = workers[Math.floor(Math.random() * workers.length)];
      if (worker === undefined) return;
      this.#onKill(worker.name);
      worker.kill();
      this.kills += 1;
    }
  }

  async #hurt(): Promise<void> {
    const ways = this.#ways();
    for (let turn = 0; await this.#pause(HURT_MS); turn += 1) {
      const way = ways[turn % ways.length];
      if (way === undefined) return;
      const outage: Outage = { what: way[0], from: Date.now(), to: Number.POSITIVE_INFINITY };
      this.outages.push(outage);
      this.#say(`the store: ${way[0]}`);
      await way[1]();
      outage.to = Date.now();
    }
  }

  #ways(): readonly (readonly [what: string, hurt: () => Promise<void>])[] {
    const { proxy, server, file } = this.#world.store;
    if (file !== null) {
      return [
        // Longer than anybody waits for a lock.
        ['locked by another program for 12 s', () => locked(file, 12_000)],
        ['locked by another program for 2 s', () => locked(file, 2_000)],
      ];
    }
    if (proxy === null || server === null) return [];
    return [
      ['all connections cut', async () => proxy.cut()],
      ['restarted', () => server.restart()],
      [
        'half-open for 8 s',
        async () => {
          proxy.freeze();
          await delay(8_000);
          proxy.thaw();
        },
      ],
      [
        'killed with SIGKILL, and back after 3 s',
        async () => {
          await server.kill();
          await delay(3_000);
          await server.start();
        },
      ],
      [
        'read-only for 6 s',
        async () => {
          await refuseWrites(server, true);
          await delay(6_000);
          await refuseWrites(server, false);
        },
      ],
      [
        'half-open, then gone, for 15 s',
        async () => {
          proxy.freeze();
          await delay(15_000);
          proxy.cut();
          proxy.thaw();
        },
      ],
    ];
  }

  async #pause(milliseconds: number): Promise<boolean> {
    return delay(milliseconds, true, { signal: this.#over.signal }).catch(() => false);
  }
}

/** As one that has become a standby, or has lost its replicas. */
async function refuseWrites(server: PrivateServer, on: boolean): Promise<void> {
  if (server.engine.name === 'redis') {
    await redis(server.dsn, ['CONFIG', 'SET', 'min-replicas-to-write', on ? '1' : '0']);
  } else await setReadOnly(server, on);
}

async function locked(file: string, milliseconds: number): Promise<void> {
  const database = new DatabaseSync(file, { timeout: 5_000 });
  try {
    database.exec('BEGIN IMMEDIATE');
    await delay(milliseconds);
    database.exec('ROLLBACK');
  } finally {
    database.close();
  }
}
