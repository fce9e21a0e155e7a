/** A configuration that cannot be used. The message is one line that names the place, the key and the fix, and no value. */
export class ConfigError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    // A file name or a key can hold a line break; the message must not.
    super(message.replace(/\p{Cc}+/gu, ' '), options);
    this.name = 'ConfigError';
  }
}
