import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Places } from '../../src/databases/places.ts';
import { never } from './support.ts';

test('as many as there are places, then in line', async () => {
  const places = new Places(2);
  const [one, two] = [await places.take(never()), await places.take(never())];
  const order: string[] = [];
  const waiting = ['third', 'fourth'].map(async (name) => {
    const leave = await places.take(never());
    order.push(name);
    return leave;
  });
  assert.deepEqual([places.taken, places.waiting, places.takeFree()], [2, 2, null]);
  one();
  one();
  const third = await waiting[0];
  assert.deepEqual([places.taken, places.waiting, order], [2, 1, ['third']]);
  two();
  const fourth = await waiting[1];
  const idle = places.idle();
  third?.();
  fourth?.();
  await idle;
  assert.deepEqual([places.taken, order], [0, ['third', 'fourth']]);
  assert.notEqual(places.takeFree(), null);
});

test('who gives up leaves the line, and takes no place', async () => {
  const places = new Places(1);
  const leave = await places.take(never());
  const cancel = new AbortController();
  const gone = places.take(cancel.signal);
  const next = places.take(never());
  const reason = new Error('enough');
  cancel.abort(reason);
  await assert.rejects(gone, (error) => error === reason);
  await assert.rejects(places.take(cancel.signal), (error) => error === reason);
  leave();
  (await next)();
  assert.equal(places.taken, 0);
});

test('closed, it refuses those in line and those who come', async () => {
  const places = new Places(1);
  const leave = await places.take(never());
  const waiting = places.take(never());
  const reason = new Error('closed');
  places.close(reason);
  await assert.rejects(waiting, (error) => error === reason);
  await assert.rejects(places.take(never()), (error) => error === reason);
  leave();
  assert.deepEqual([places.takeFree(), places.taken], [null, 0]);
});
