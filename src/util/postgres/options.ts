/** libpq's `options`, the server's command line: poolers refuse it, so that what it sets is set as any setting is. */

/** What `-c name=value` and `--name=value` set; null: it has something else, too. A backslash escapes what follows it. */
export function settingsOfOptions(options: string): Readonly<Record<string, string>> | null {
  const words = [...options.matchAll(/(?:[^\s\\]|\\.)+/gs)].map(([word]) => word.replaceAll(/\\(.)/gs, '$1'));
  const settings: Record<string, string> = {};
  while (words.length > 0) {
    const word = words.shift() ?? '';
    const given = word === '-c' ? (words.shift() ?? '') : (/^(?:-c|--)(.+)$/s.exec(word)?.[1] ?? '');
    const [, name, value] = /^([A-Za-z_][\w.-]*)=(.*)$/s.exec(given) ?? [];
    if (name === undefined || value === undefined) return null;
    settings[name.replaceAll('-', '_')] = value;
  }
  return settings;
}
