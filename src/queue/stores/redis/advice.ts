/** What the settings of a Redis mean for jobs that were accepted: said at the start, loudly. */
import type { Client } from './connect.ts';

/** Settings by name; null: this user may not ask. */
export type Settings = ReadonlyMap<string, string> | null;

const ASKED = ['maxmemory', 'maxmemory-policy', 'appendonly', 'appendfsync', 'save'] as const;

/** Managed servers and careful administrators forbid CONFIG. */
export async function settingsOf(client: Client): Promise<Settings> {
  try {
    const settings = new Map<string, string>();
    for (const name of ASKED) {
      const [found, value] = (await client.call('CONFIG', 'GET', name)) as readonly string[];
      if (found !== undefined) settings.set(found, value ?? '');
    }
    return settings;
  } catch (error) {
    if (error instanceof Error && error.name === 'ReplyError') return null;
    throw error;
  }
}

/** What puts jobs at risk, a sentence each. */
export function warnings(settings: Settings): readonly string[] {
  if (settings === null) {
    return [
      'Redis does not let this user read its settings (CONFIG GET): make sure that maxmemory-policy is noeviction and that it keeps its data (appendonly yes), or accepted jobs may be lost.',
    ];
  }
  const found: string[] = [];
  const policy = settings.get('maxmemory-policy') ?? 'noeviction';
  if (policy !== 'noeviction') {
    const isLimited = (settings.get('maxmemory') ?? '0') !== '0';
    // Of what the store keeps nothing has an expiry, which is all that the volatile policies take.
    if (policy.startsWith('allkeys')) {
      found.push(
        `Redis may throw the queue away ${isLimited ? 'when its memory is full' : 'once it has a maxmemory'}: its maxmemory-policy is ${policy}. Set it to noeviction.`,
      );
    }
  }
  if (settings.get('appendonly') !== 'yes') {
    found.push(
      (settings.get('save') ?? '') === ''
        ? 'Redis keeps its data in memory only: a restart loses every job. Set appendonly yes.'
        : 'Redis keeps snapshots only: a crash loses the jobs accepted since the last one. Set appendonly yes.',
    );
  } else if (settings.get('appendfsync') === 'no') {
    found.push(
      'Redis leaves it to the system when its log reaches the disk (appendfsync no): a power cut loses the jobs accepted last. Set appendfsync everysec (a second at most) or always (none).',
    );
  }
  return found;
}
