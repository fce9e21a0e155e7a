/**
 * Waiting for groups to be finished: any number of waiters on any number of groups, one question to the store for all
 * of them. What it costs does not grow with the number of jobs of a group.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { LONGEST_TIMER_MS } from '../util/duration.ts';
import { QueueError, UnknownGroup } from './errors.ts';
import type { Store } from './store.ts';

/** When no hint comes: how often the store is asked after the groups that are waited for, ms. */
const POLL_MS = 1_000;
/** The longest pause between two questions for which there was a hint, ms. */
const LONGEST_PAUSE_MS = 100;
/** The most groups in one question. */
const ASKED_AT_ONCE = 500;

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

export class GroupWaiters {
  readonly #store: Pick<Store, 'unfinished' | 'watch'>;
  readonly #byGroup = new Map<string, Set<Waiter>>();
  /** Whether there is reason to ask, and whether it is being asked or paused before the next question. */
  #due = false;
  #busy = false;
  #unwatch: (() => void) | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(store: Pick<Store, 'unfinished' | 'watch'>) {
    this.#store = store;
  }

  /**
   * Resolves when all jobs of the group are finished or forgotten, when the time is up or the signal aborts. Throws
   * `UnknownGroup`, and as the store does when it is first asked; later it waits for one that is unavailable.
   */
  async wait(group_id: string, timeout_ms: number, signal?: AbortSignal): Promise<void> {
    const [left] = await this.#store.unfinished([group_id]);
    if (left == null) throw UnknownGroup(group_id);
    if (left === 0 || timeout_ms <= 0 || signal?.aborted) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { resolve, reject };
    const timer = setTimeout(resolve, Math.min(timeout_ms, LONGEST_TIMER_MS));
    const abort = () => resolve();
    signal?.addEventListener('abort', abort);
    this.#add(group_id, waiter);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      this.#remove(group_id, waiter);
    }
  }

  #add(group_id: string, waiter: Waiter): void {
    const waiters = this.#byGroup.get(group_id) ?? new Set();
    this.#byGroup.set(group_id, waiters.add(waiter));
    // First the watch, then the question: nothing is missed in between.
    this.#unwatch ??= this.#store.watch((hint) => {
      // Whose job it was is not known: that would take a note of every job of every group.
      if (hint.type === 'finished') this.#ask();
    });
    this.#poll ??= setInterval(() => this.#ask(), POLL_MS).unref();
    this.#ask();
  }

  #remove(group_id: string, waiter: Waiter): void {
    const waiters = this.#byGroup.get(group_id);
    waiters?.delete(waiter);
    if (waiters?.size === 0) this.#byGroup.delete(group_id);
    if (this.#byGroup.size > 0) return;
    this.#unwatch?.();
    this.#unwatch = undefined;
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  #ask(): void {
    this.#due = true;
    if (!this.#busy) void this.#askWhileDue();
  }

  async #askWhileDue(): Promise<void> {
    this.#busy = true;
    while (this.#due && this.#byGroup.size > 0) {
      this.#due = false;
      const least = await this.#look();
      // Jobs end by the thousand, and a group with many left is not over soon.
      await pause(Math.min(least, LONGEST_PAUSE_MS), undefined, { ref: false });
    }
    this.#busy = false;
  }

  /** How many jobs are left of the group that has the fewest. */
  async #look(): Promise<number> {
    const group_ids = [...this.#byGroup.keys()];
    let least = Number.POSITIVE_INFINITY;
    for (let start = 0; start < group_ids.length; start += ASKED_AT_ONCE) {
      const asked = group_ids.slice(start, start + ASKED_AT_ONCE);
      try {
        const counts = await this.#store.unfinished(asked);
        for (const [index, group_id] of asked.entries()) {
          const left = counts[index] ?? 0;
          if (left > 0) least = Math.min(least, left);
          else this.#settle(group_id, (waiter) => waiter.resolve());
        }
      } catch (error) {
        // It is asked again with the next poll.
        if (error instanceof QueueError && error.code === 'store_unavailable') continue;
        for (const group_id of asked) this.#settle(group_id, (waiter) => waiter.reject(error));
      }
    }
    return least;
  }

  #settle(group_id: string, end: (waiter: Waiter) => void): void {
    for (const waiter of this.#byGroup.get(group_id) ?? []) end(waiter);
  }
}
