import { hash } from 'node:crypto';

/** The first `length` hexadecimal digits of a text's SHA-256: a short stand-in for it in names. */
export function digest(text: string, length: number): string {
  return hash('sha256', text, 'hex').slice(0, length);
}
