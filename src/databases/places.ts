/** A number of places, for connections or queries; who finds none waits in line. */
export class Places {
  readonly #most: number;
  readonly #waiting: { readonly enter: () => void; readonly refuse: (reason: unknown) => void }[] = [];
  #taken = 0;
  #closed: { readonly reason: unknown } | null = null;
  #whenIdle: (() => void) | null = null;

  constructor(most: number) {
    this.#most = most;
  }

  get taken(): number {
    return this.#taken;
  }

  /** How many wait in line. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Resolves to a function that gives the place back, of no consequence the second time. Rejects with the signal's
   * reason while it waits, or with that of `close`.
   */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#closed !== null) throw this.#closed.reason;
    if (this.#taken < this.#most) this.#taken += 1;
    else await this.#wait(signal);
    return this.#place();
  }

  /** A place without waiting; null if there is none. */
  takeFree(): (() => void) | null {
    if (this.#closed !== null || this.#taken >= this.#most) return null;
    this.#taken += 1;
    return this.#place();
  }

  /** Refuses those who wait, and everybody from now on. */
  close(reason: unknown): void {
    this.#closed = { reason };
    for (const { refuse } of this.#waiting.splice(0)) refuse(reason);
  }

  /** Resolves when no place is taken. */
  idle(): Promise<void> {
    if (this.#taken === 0) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#whenIdle = resolve;
    return promise;
  }

  #place(): () => void {
    let taken = true;
    return () => {
      if (taken) this.#giveBack();
      taken = false;
    };
  }

  #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = { enter: resolve, refuse: reject };
    const leave = () => {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      reject(signal.reason);
    };
    this.#waiting.push(waiter);
    signal.addEventListener('abort', leave, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', leave));
  }

  /** Hands the place to who waits longest: nobody else comes in between. */
  #giveBack(): void {
    const next = this.#waiting.shift();
    if (next !== undefined) {
      next.enter();
      return;
    }
    this.#taken -= 1;
    if (this.#taken === 0) this.#whenIdle?.();
  }
}
