/**
 * The script that every call of the Redis store runs, inside of Redis, where nothing else runs meanwhile.
 *
 * KEYS[1] names the store's own key: the others have the same hash tag. ARGV: the store's id, what to add to the
 * clock (ms), when the call is too late (server's clock, ms; "": never), who calls, and whether it may write
 * when memory is full ("always", "room": not then, "read": it does not write), and 1 if replicas are waited for.
 * Then any number of calls, each with its arguments.
 */
import { hash } from 'node:crypto';
import { ATTEMPTS } from './script/attempts.ts';
import { CHANGES } from './script/changes.ts';
import { withNumbers } from './script/constants.ts';
import { CONTEXT, HELPERS, NAMES, TOP } from './script/context.ts';
import { DISPATCH, END } from './script/dispatch.ts';
import { PLAIN, POST_ONE } from './script/plain.ts';
import { POSTING } from './script/posting.ts';
import { READS } from './script/reads.ts';
import { SLOTS } from './script/slots.ts';
import { TRANSITIONS } from './script/transitions.ts';

/**
 * A part whose functions are only made when it is called. What a run makes it also throws away, and most of its time
 * would go into that: so a run makes what it needs.
 */
function part(name: string, ...texts: readonly string[]): string {
  return `local function ${name}()\n${texts.join('')}end\n`;
}

const REST = [
  NAMES,
  part('core', CONTEXT, SLOTS, TRANSITIONS, POSTING),
  part('attempts', ATTEMPTS),
  part('reads', READS),
  part('changes', CHANGES),
  DISPATCH,
];

export const SCRIPT = withNumbers(
  [
    TOP,
    POST_ONE,
    'if S.at < #ARGV then\n',
    HELPERS,
    PLAIN,
    'if S.at < #ARGV then\n',
    part('rest', ...REST),
    'rest()\nend\nend\n',
    END,
  ].join(''),
);

/** What EVALSHA calls it by. */
export const SCRIPT_SHA = hash('sha1', SCRIPT);

/** Of what the script keeps. A store of a newer one is refused. */
export const VERSION = 1;

/** Makes the store if it is not there: ARGV its id and version. Answers with what is there, and the time in ms. */
export const OPENING = `
if redis.call('HSETNX', KEYS[1], 'id', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'version', ARGV[2], 'seq', 0, 'fence', 0)
end
local kept, time = redis.call('HMGET', KEYS[1], 'id', 'version'), redis.call('TIME')
return {kept[1], kept[2], time[1] * 1000 + math.floor(time[2] / 1000)}
`;
