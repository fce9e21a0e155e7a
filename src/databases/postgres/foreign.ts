/** Errors that are not about our server, and go through unchanged to whoever asked. */

/** What the source, `confirm` or another callback threw is its `cause`. */
export class Foreign extends Error {
  constructor(error: unknown) {
    super('an error of somebody else', { cause: error });
    this.name = 'Foreign';
  }
}

/** What others do for us. */
export async function foreign<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw new Foreign(error);
  }
}
