/** An engine in the configuration: its keys, and what becomes of them. */
import type { StaticDecode, TObject, TProperties } from 'typebox';
import { text } from './values.ts';

/** What an engine needs beside its own keys. */
export interface Surroundings {
  /** The absolute path of a path given as `key`: below the file's folder, or the working directory. */
  file(key: string, path: string): string;
  /** Refuses what a key was given; `why` tells what is wrong and repeats none of it. Null: nothing is. */
  check(key: string, why: string | null): void;
  readonly worker_concurrency: number;
}

/** An engine: its keys, and what they mean. */
export interface Engine<Config> {
  readonly keys: TObject;
  build(values: Readonly<Record<string, unknown>>, surroundings: Surroundings): Config;
}

/** An engine whose `build` is given the values of its own keys, by their types. */
export function engine<Keys extends TProperties, Config>(
  keys: TObject<Keys>,
  build: (values: StaticDecode<TObject<Keys>>, surroundings: Surroundings) => Config,
): Engine<Config> {
  // The loader decodes each value by its own schema in `keys`; only the type of the whole is lost on the way.
  return { keys, build: (values, around) => build(values as StaticDecode<TObject<Keys>>, around) };
}

/** Every section of an engine says which one. */
export const typeKey = text('the engine', {});
