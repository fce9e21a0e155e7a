import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { proxy } from './proxy.ts';
import { until } from './until.ts';

/** A server that keeps its sockets and what each has received. */
async function listener(t: TestContext) {
  const sockets: Socket[] = [];
  const received: string[] = [];
  const resets: Error[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const index = sockets.push(socket) - 1;
    received[index] = '';
    socket.setEncoding('latin1').on('data', (text: string) => {
      received[index] += text;
    });
    socket.on('error', (error) => resets.push(error));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { port: address.port, sockets, received, resets };
}

interface Client {
  readonly socket: Socket;
  received: string;
}

async function connect(t: TestContext, port: number): Promise<Client> {
  const socket = createConnection(port, '127.0.0.1');
  t.after(() => socket.destroy());
  const client: Client = { socket, received: '' };
  socket.setEncoding('latin1').on('data', (text: string) => {
    client.received += text;
  });
  await once(socket, 'connect');
  return client;
}

/** The code of the error that ends the socket. */
async function failure(socket: Socket): Promise<string | undefined> {
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  return error.code;
}

test('what goes in comes out, both ways, and is counted', async (t) => {
  const server = await listener(t);
  const between = await proxy(t, server);
  const client = await connect(t, between.port);
  client.socket.write('question');
  await until('it is there', () => server.received[0] === 'question');
  server.sockets[0]?.write('answers');
  await until('it is back', () => client.received === 'answers');
  assert.deepEqual(between.bytes, { toServer: 8, toClient: 7 });
  assert.equal(between.connections, 1);
  client.socket.end();
  const [socket] = server.sockets;
  assert.ok(socket);
  if (!socket.readableEnded) await once(socket, 'end');
  socket.end('farewell'); // one direction closed, the other not yet
  await until('the last words are there', () => client.received === 'answersfarewell');
  await until('the connection is gone', () => between.connections === 0);
});

test('a cut resets every connection, to both sides; new ones go through', async (t) => {
  const server = await listener(t);
  const between = await proxy(t, server);
  const clients = [await connect(t, between.port), await connect(t, between.port)];
  await until('both are through', () => server.sockets.length === 2);
  const failures = clients.map(({ socket }) => failure(socket));
  between.cut();
  assert.deepEqual(await Promise.all(failures), ['ECONNRESET', 'ECONNRESET']);
  await until('the server knows', () => server.resets.length === 2);
  const next = await connect(t, between.port);
  next.socket.write('next');
  await until('the next one is through', () => server.received[2] === 'next');
});

test('a side that resets its connection has the other one reset', async (t) => {
  const server = await listener(t);
  const between = await proxy(t, server);
  const client = await connect(t, between.port);
  await until('it is through', () => server.sockets.length === 1);
  client.socket.resetAndDestroy();
  await until('the server knows', () => server.resets.length === 1);
});

test('frozen, nothing goes through and nobody learns of it; thawed, all of it does', async (t) => {
  const server = await listener(t);
  const between = await proxy(t, server);
  const old = await connect(t, between.port);
  const other = await connect(t, between.port);
  await until('both are through', () => server.sockets.length === 2);
  between.freeze();
  old.socket.write('late');
  server.sockets[0]?.write('late answer');
  other.socket.destroy();
  const fresh = await connect(t, between.port); // the network takes it, as a silent host's backlog would
  fresh.socket.write('fresh');
  // What is sent beside the proxy at last has come, so that what went into it first would have, too.
  const beside = await connect(t, server.port);
  beside.socket.write('beside');
  await until('what is beside it has come', () => server.received.includes('beside'));
  assert.deepEqual([server.received[0], old.received, between.bytes], ['', '', { toServer: 0, toClient: 0 }]);
  assert.equal(server.sockets[1]?.readableEnded, false);
  assert.equal(old.socket.destroyed, false);
  between.thaw();
  await until('all has come', () => server.received[0] === 'late' && server.received.includes('fresh'));
  await until('the answer, too', () => old.received === 'late answer');
  await until('an end, too', () => server.sockets[1]?.readableEnded === true);
});

test('refusing, what is connected stays; it listens again on the same port', async (t) => {
  const server = await listener(t);
  const between = await proxy(t, server);
  const old = await connect(t, between.port);
  between.refuse();
  const refused = createConnection(between.port, '127.0.0.1');
  assert.equal(await failure(refused), 'ECONNREFUSED');
  old.socket.write('still here');
  await until('it is through', () => server.received[0] === 'still here');
  const { port } = between;
  await between.listen();
  assert.equal(between.port, port);
  const client = await connect(t, port);
  client.socket.write('again');
  await until('a new one is through', () => server.received[1] === 'again');
});

test('a limit lets exactly so many bytes through, then cuts, once', async (t) => {
  const server = await listener(t);
  const between = await proxy(t, server);
  const client = await connect(t, between.port);
  await until('it is through', () => server.sockets.length === 1);
  client.socket.write('before');
  await until('it is there', () => server.received[0] === 'before');
  between.cutAfter('toClient', 1_000_000);
  const ended = failure(client.socket);
  server.sockets[0]?.on('error', () => {}).write('x'.repeat(3_000_000));
  assert.equal(await ended, 'ECONNRESET');
  assert.equal(between.bytes.toClient, 1_000_000);
  const next = await connect(t, between.port);
  await until('the next one is through', () => server.sockets.length === 2);
  server.sockets[1]?.write('y'.repeat(10));
  await until('and not limited', () => next.received === 'y'.repeat(10));
});

test('a client that does not read stops the server from sending', async (t) => {
  const server = await listener(t);
  const between = await proxy(t, server);
  const client = await connect(t, between.port);
  await until('it is through', () => server.sockets.length === 1);
  client.socket.pause();
  const size = 64 * 1024 * 1024;
  server.sockets[0]?.write('x'.repeat(size));
  let before = -1;
  await until('nothing moves any more', () => {
    const still = before === between.bytes.toClient && before > 0;
    before = between.bytes.toClient;
    return still;
  });
  assert.ok(between.bytes.toClient < size / 2, `${between.bytes.toClient}`);
  client.socket.resume();
  await until('all of it has come', () => client.received.length === size);
});

test('a server that is not there: the connection is reset', async (t) => {
  const gone = createServer().listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const address = gone.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  gone.close();
  await once(gone, 'close');
  const between = await proxy(t, address);
  const client = createConnection(between.port, '127.0.0.1');
  assert.equal(await failure(client), 'ECONNRESET');
});
