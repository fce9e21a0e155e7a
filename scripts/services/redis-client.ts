/** One command to a Redis server, over a connection of its own: what the test tools need, and no more. */
import { createConnection } from 'node:net';

export type Reply = string | number | null | Reply[];

/** Parses the reply that begins at `at`; undefined while it is not whole. */
function parse(bytes: Buffer, at: number): { reply: Reply | Error; end: number } | undefined {
  const newline = bytes.indexOf('\r\n', at);
  if (newline < 0) return undefined;
  const head = bytes.toString('utf8', at + 1, newline);
  const next = newline + 2;
  switch (bytes.toString('latin1', at, at + 1)) {
    case '+':
      return { reply: head, end: next };
    case '-':
      return { reply: new Error(head), end: next };
    case ':':
      return { reply: Number(head), end: next };
    case '$': {
      const length = Number(head);
      if (length < 0) return { reply: null, end: next };
      if (bytes.length < next + length + 2) return undefined;
      return { reply: bytes.toString('utf8', next, next + length), end: next + length + 2 };
    }
    case '*': {
      const list: Reply[] = [];
      let end = next;
      for (let rest = Number(head); rest > 0; rest -= 1) {
        const item = parse(bytes, end);
        if (item === undefined) return undefined;
        if (item.reply instanceof Error) return { reply: item.reply, end: item.end };
        list.push(item.reply);
        end = item.end;
      }
      return { reply: list, end };
    }
    default:
      return { reply: new Error('not a reply of Redis'), end: next };
  }
}

const encode = (command: readonly string[]) =>
  `*${command.length}\r\n${command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;

/** Rejects with the server's own words, or with the socket's error. */
export async function redis(url: string, command: readonly string[]): Promise<Reply> {
  const { hostname, port, password, username, pathname } = new URL(url);
  const opening = [
    ...(password ? [['AUTH', ...(username ? [username] : []), decodeURIComponent(password)]] : []),
    ...(pathname.length > 1 ? [['SELECT', pathname.slice(1)]] : []),
  ];
  const commands = [...opening, command];
  const socket = createConnection(Number(port || 6379), hostname);
  socket.setTimeout(5_000, () => socket.destroy(new Error('Redis does not answer')));
  try {
    return await new Promise<Reply>((resolve, reject) => {
      let received = Buffer.alloc(0);
      let replies = 0;
      socket.on('error', reject).on('close', () => reject(new Error('Redis closed the connection')));
      socket.on('data', (bytes) => {
        received = Buffer.concat([received, bytes]);
        for (let found = parse(received, 0); found !== undefined; found = parse(received, 0)) {
          received = received.subarray(found.end);
          replies += 1;
          if (found.reply instanceof Error) return reject(found.reply);
          if (replies === commands.length) return resolve(found.reply);
        }
      });
      socket.write(commands.map(encode).join(''));
    });
  } finally {
    socket.destroy();
  }
}
