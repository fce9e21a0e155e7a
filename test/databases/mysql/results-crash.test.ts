/**
 * Publishing and dropping on a server where every change of a table commits by itself: stopped before and behind
 * each command there is, by death, by a cut connection, by a sleep in which others go by.
 */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import type { ResultsBackend } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { never, owner, writeOptions } from '../support.ts';
import { type CommandProxy, commandProxy, type Stop } from './results-proxy.ts';
import { catalogued, numbers, onlyTables, openResults } from './results-support.ts';

/** Rows of the table before, of the one that is stopped, and of the one that comes after. */
const OLD = 3;
const NEW = 5;
const NEWEST = 7;

/**
 * Behind one command is before the next to a server whose client is dead or asleep. To a client that is cut off it is
 * not: it does not know which.
 */
const WHEN = { die: ['after'], sleep: ['before'], cut: ['before', 'after'] } as const;
/** How many commands a new connection begins with; the last of them is looked at like any other. */
const SETTING_UP = 3;

interface Scene {
  readonly dsn: string;
  /** Undisturbed. */
  readonly steady: ResultsBackend;
  /** By way of the proxy. */
  readonly shaky: ResultsBackend;
  readonly proxy: CommandProxy;
  /** Where it is stopped, for messages. */
  readonly at: string;
  /** Of the earlier table. */
  readonly fence: number;
}

async function rowsOf(dsn: string): Promise<number | null> {
  if ((await execute(dsn, "SHOW TABLES LIKE 'results\\_job'")).length === 0) return null;
  const [[rows] = []] = await execute(dsn, 'SELECT COUNT(*) FROM results_job');
  return Number(rows);
}

async function sweep(backend: ResultsBackend): Promise<void> {
  await backend.sweep({ store_id: 'store', liveFences: async () => new Set(), judge: async () => 'keep' });
}

/** The rows of the table when it and the catalog agree and nothing else is there. */
async function whole({ dsn, at }: Scene): Promise<number | null> {
  const row = await catalogued(dsn, 'job');
  await onlyTables(dsn, row === undefined ? [] : ['results_job']);
  const rows = await rowsOf(dsn);
  assert.equal(rows, row === undefined ? null : Number(row['rows']), at);
  return rows;
}

type Work = (backend: ResultsBackend) => Promise<unknown>;

for (const server of servers('mysql')) {
  suite(`crashes of results on ${server.name}`, { skip: server.skip, concurrency: true }, () => {
    /** Runs `scene` with the work stopped at each command that it takes. */
    const atEach = async (
      t: TestContext,
      how: Stop['how'],
      earlier: number | null,
      work: Work,
      play: (scene: Scene) => Promise<void>,
      stops: (commands: readonly string[]) => readonly number[] = (commands) =>
        [...commands.keys()].slice(SETTING_UP),
    ) => {
      const dsn = await freshDatabase(t, server);
      const steady = await openResults(t, dsn);
      await steady.ping(never());
      const prepare = async (stop: Stop | null, at: string): Promise<Scene> => {
        await steady.drop('job');
        const old = owner('job');
        if (earlier !== null) await steady.write(numbers(earlier), writeOptions('job', { owner: old }));
        await onlyTables(dsn, earlier === null ? [] : ['results_job']);
        const proxy = await commandProxy(t, dsn, stop);
        return {
          dsn,
          steady,
          proxy,
          shaky: await openResults(t, proxy.dsn, { restart_ms: 0 }),
          at,
          fence: old.fence,
        };
      };
      const calm = await prepare(null, 'undisturbed');
      await work(calm.shaky);
      await whole(calm);
      const { commands } = calm.proxy;
      for (const command of stops(commands)) {
        for (const when of WHEN[how]) {
          const scene = await prepare({ command, when, how }, `${when} ${command}: ${commands[command]}`);
          await play(scene);
          await scene.shaky.close();
        }
      }
    };
    const write: Work = (backend) => backend.write(numbers(NEW), writeOptions('job'));

    for (const earlier of [null, OLD]) {
      const which = earlier === null ? 'first' : 'second';
      test(`death at each command of a write, the ${which} of its job`, async (t) => {
        let swept = false;
        await atEach(t, 'die', earlier, write, async (scene) => {
          const { dsn, steady, proxy, shaky, at } = scene;
          await write(shaky).catch((error: unknown) => {
            assert.ok(error instanceof DatabaseError && error.transient, `${at}: ${error}`);
          });
          await proxy.stopped;
          // Readers have the old table or the new one, whole.
          assert.ok([earlier, NEW].includes(await rowsOf(dsn)), at);
          // The next attempt gets along with or without a sweep before it.
          swept = !swept;
          if (swept) {
            await sweep(steady);
            assert.ok([earlier, NEW].includes(await whole(scene)), at);
          }
          await steady.write(numbers(NEWEST), writeOptions('job'));
          await sweep(steady);
          assert.equal(await whole(scene), NEWEST, at);
        });
      });

      test(`a connection cut at each command of a write, the ${which} of its job`, async (t) => {
        await atEach(t, 'cut', earlier, write, async (scene) => {
          const { proxy, shaky, steady, at } = scene;
          const told = await write(shaky).catch((error: unknown) => error);
          await proxy.stopped;
          assert.ok(
            !(told instanceof Error) || (told instanceof DatabaseError && told.transient),
            `${at}: ${told}`,
          );
          await sweep(steady); // of trash, when the cut came as it was being dropped
          assert.equal(await whole(scene), told instanceof Error ? earlier : NEW, at);
          await steady.write(numbers(NEWEST), writeOptions('job'));
          assert.equal(await whole(scene), NEWEST, at);
        });
      });

      test(`sleep at each command of a write, the ${which} of its job, while its successor goes by`, async (t) => {
        await atEach(
          t,
          'sleep',
          earlier,
          write,
          async (scene) => {
            const { proxy, shaky, steady, at } = scene;
            const zombie = owner('job');
            const sleeping = shaky
              .write(numbers(NEW), writeOptions('job', { owner: zombie }))
              .then(() => 'published')
              .catch((error: unknown) => (error instanceof DatabaseError ? error.code : error));
            await proxy.stopped;
            await steady.write(numbers(NEWEST), writeOptions('job'));
            proxy.wake();
            const outcome = await sleeping;
            // It had published before its successor came, or never does.
            assert.ok(
              outcome === 'published' || outcome === 'fenced' || outcome === 'unavailable',
              `${at}: ${outcome}`,
            );
            await sweep(steady);
            assert.equal(await whole(scene), NEWEST, at);
          },
          outsideTransactions,
        );
      });
    }

    const drop: Work = (backend) => backend.drop('job');

    test('death at each command of a drop', async (t) => {
      let swept = false;
      await atEach(t, 'die', OLD, drop, async (scene) => {
        const { proxy, shaky, steady, at } = scene;
        await drop(shaky).catch((error: unknown) => {
          assert.ok(error instanceof DatabaseError && error.transient, `${at}: ${error}`);
        });
        await proxy.stopped;
        swept = !swept;
        if (swept) {
          await sweep(steady);
          // A table made for a drop that never began goes after a day.
          await forgetTokens(scene);
          assert.ok([null, OLD].includes(await whole(scene)), at);
        }
        await steady.write(numbers(NEWEST), writeOptions('job'));
        await sweep(steady);
        await forgetTokens(scene);
        assert.equal(await whole(scene), NEWEST, at);
      });
    });

    test('sleep at each command of a drop, while a new table is published', async (t) => {
      await atEach(
        t,
        'sleep',
        OLD,
        drop,
        async (scene) => {
          const { proxy, shaky, steady, at } = scene;
          const sleeping = shaky.drop('job', scene.fence);
          await proxy.stopped;
          await steady.write(numbers(NEWEST), writeOptions('job'));
          proxy.wake();
          await sleeping;
          await sweep(steady);
          assert.equal(await whole(scene), NEWEST, at);
        },
        outsideTransactions,
      );
    });
  });
}

/** Inside, the server ends the connection of who sleeps; that takes seconds, and each ends like the first. */
function outsideTransactions(commands: readonly string[]): readonly number[] {
  let inside = 0;
  return [...commands.keys()].slice(SETTING_UP).filter((index) => {
    const command = commands[index] ?? '';
    if (command.includes('autocommit = 0')) inside += 1;
    const here = inside;
    if (command.includes('autocommit = 1, wait')) inside = 0;
    return here === 0;
  });
}

/** Drops tables of tokens that belong to no drop, as a sweep does when they are a day old. */
async function forgetTokens({ dsn, steady }: Scene): Promise<void> {
  const found = await execute(
    dsn,
    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_COMMENT = 'dungbeetle drop job'",
  );
  await sweep(steady);
  for (const [name] of found) await execute(dsn, `DROP TABLE ${name}`);
}
