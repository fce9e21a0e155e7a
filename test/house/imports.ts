/**
 * Which module imports which, and which of those imports the house does not allow.
 *
 * Imports are found by regular expressions: TypeScript 7 has no stable JavaScript API, Node's type stripping
 * drops the imports of types, and a parser would be a dependency for one test. The formatter puts every
 * import at the beginning of a line, which is what makes this safe; comment lines are blanked first.
 */
import { posix } from 'node:path';

/** Path below src/ → source text. */
export type Sources = ReadonlyMap<string, string>;

export interface Import {
  readonly from: string;
  readonly line: number;
  /** Below src/, or a package's or builtin's name. */
  readonly to: string;
  readonly isOurs: boolean;
  /** Not loaded by it but started, as a process or thread of its own. */
  readonly isStarted: boolean;
}

/** What a room may import: other rooms or single files below src/, and packages. Node's own modules are free. */
export interface Room {
  readonly ours: readonly string[];
  readonly packages: readonly string[];
}

const LOADED = [
  // import … from '…', export … from '…', import '…'
  /^(?:import|export)\b(?:[^'";]*?\bfrom)?\s*['"]([^'"]+)['"]/gm,
  // await import('…'), typeof import('…')
  /\bimport\s*\(\s*['"]([^'"]+)['"]/g,
];
const STARTED = [
  // new URL('./module.ts', import.meta.url), entry(import.meta.url, './module')
  /\bnew URL\(\s*['"]([^'"]+)['"],\s*import\.meta\.url/g,
  /\bentry\(\s*import\.meta\.url,\s*['"]([^'"]+)['"]/g,
];

export function importsOf(sources: Sources): readonly Import[] {
  return [...sources].flatMap(([from, text]) => {
    const code = text.replaceAll(/^[ \t]*(?:\/\/|\/?\*).*$/gm, '');
    return [...LOADED, ...STARTED].flatMap((pattern) =>
      [...code.matchAll(pattern)].map((match): Import => {
        const specifier = match[1] ?? '';
        const isOurs = specifier.startsWith('.');
        return {
          from,
          line: code.slice(0, match.index + match[0].length).split('\n').length,
          to: isOurs ? resolved(from, specifier, sources) : packageOf(specifier),
          isOurs,
          isStarted: STARTED.includes(pattern),
        };
      }),
    );
  });
}

function resolved(from: string, specifier: string, sources: Sources): string {
  const path = posix.join(posix.dirname(from), specifier);
  return sources.has(path) ? path : sources.has(`${path}.ts`) ? `${path}.ts` : path;
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('node:')) return specifier;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** "cli.ts" and "app.ts" are rooms of their own. */
function roomOf(path: string): string {
  return path.split('/')[0] ?? path;
}

/** Each forbidden import as "src/file:line: why". */
export function forbidden(sources: Sources, rooms: Readonly<Record<string, Room>>): readonly string[] {
  return importsOf(sources).flatMap(({ from, line, to, isOurs }) => {
    const where = `src/${from}:${line}`;
    const name = roomOf(from);
    const room = rooms[name];
    if (room === undefined) return [`${where}: ${name} is a room that the house does not know`];
    if (!isOurs) {
      const free = to.startsWith('node:') || room.packages.includes(to);
      return free ? [] : [`${where}: ${name} must not use the package ${to}`];
    }
    if (to.startsWith('..')) return to === '../package.json' ? [] : [`${where}: ${to} is outside of src`];
    if (roomOf(to) === name)
      return betweenEngines(from, to) ? [`${where}: an engine imports another's ${to}`] : [];
    const free = room.ours.includes(roomOf(to)) || room.ours.includes(to);
    return free ? [] : [`${where}: ${name} must not import ${to}`];
  });
}

/** databases/ENGINE/… knows only itself and what all engines share, which has folders too. */
function betweenEngines(from: string, to: string): boolean {
  const folder = (path: string) => /^databases\/([^/]+)\//.exec(path)?.[1];
  if (folder(from) === undefined || folder(to) === undefined || folder(from) === folder(to)) return false;
  return folder(to) !== 'encodings';
}

/** The import cycles between files, each as "a.ts → b.ts → a.ts", found once. */
export function cycles(sources: Sources): readonly string[] {
  const edges = new Map<string, Set<string>>();
  for (const { from, to, isOurs, isStarted } of importsOf(sources)) {
    if (!isOurs || isStarted) continue;
    const targets = edges.get(from) ?? new Set();
    edges.set(from, targets.add(to));
  }
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]) => {
    const start = path.indexOf(file);
    if (start >= 0) {
      found.push([...path.slice(start), file].join(' → '));
      return;
    }
    if (done.has(file)) return;
    for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of edges.keys()) visit(file, []);
  return found;
}
