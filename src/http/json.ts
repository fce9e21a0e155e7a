/**
 * Reads JSON without losing anything of it. JSON.parse keeps the last of two equal keys, rounds numbers to
 * doubles and lets lone surrogates pass, which no database can store; each of these is an error here.
 */

/** Deeper than any request is, far less than what a recursive visitor could stumble over. */
const MAX_DEPTH = 32;

/** Longer than any double written out in full (767 digits): what is longer has zeros at its ends, or is not exact. */
const MAX_NUMBER_LENGTH = 1_000;

/** What was wrong, and where. */
export class JsonError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'JsonError';
  }
}

/** Throws `JsonError`. */
export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new JsonError(`the body is not valid JSON: ${error.message}`, { cause: error });
  }
  inspect(text);
  return value;
}

/** A container that is open where the scan stands. */
type Frame =
  | { readonly type: 'object'; readonly keys: Set<string>; key: string; expects_key: boolean }
  | { readonly type: 'array'; index: number };

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Walks over the tokens of a text that JSON.parse has accepted. */
function inspect(text: string): void {
  const frames: Frame[] = [];
  let at = 0;
  while (at < text.length) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) {
      const end = endOfString(text, at);
      readString(text.slice(at, end), frames);
      at = end;
      continue;
    }
    if (char === MINUS || (char >= ZERO && char <= NINE)) {
      const end = endOfNumber(text, at);
      const source = text.slice(at, end);
      if (source.length > MAX_NUMBER_LENGTH) throw new JsonError(overlong(pathOf(frames), source));
      if (!isExact(source)) throw new JsonError(inexact(pathOf(frames), source));
      at = end;
      continue;
    }
    if (char === OPEN_BRACE) frames.push({ type: 'object', keys: new Set(), key: '', expects_key: true });
    else if (char === OPEN_BRACKET) frames.push({ type: 'array', index: 0 });
    else if (char === CLOSE_BRACE || char === CLOSE_BRACKET) frames.pop();
    else if (char === COMMA) {
      const frame = frames.at(-1);
      if (frame?.type === 'object') frame.expects_key = true;
      else if (frame?.type === 'array') frame.index += 1;
    }
    if (frames.length > MAX_DEPTH) {
      throw new JsonError(`the body is nested deeper than ${MAX_DEPTH} levels`);
    }
    at += 1;
  }
}

function readString(source: string, frames: readonly Frame[]): void {
  const value: string = source.includes('\\') ? JSON.parse(source) : source.slice(1, -1);
  const frame = frames.at(-1);
  if (frame?.type === 'object' && frame.expects_key) {
    if (frame.keys.has(value)) {
      const where = pathOf(frames.slice(0, -1));
      throw new JsonError(
        `${where === '' ? '' : `${where}: `}the key ${JSON.stringify(value)} is there twice`,
      );
    }
    frame.keys.add(value);
    frame.key = value;
    frame.expects_key = false;
  }
  if (!value.isWellFormed()) {
    throw new JsonError(
      `${pathOf(frames)}: holds half a surrogate pair (\\ud800 to \\udfff), which is no text`,
    );
  }
}

/** The index after the closing quote. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  for (;;) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) return at + 1;
    at += char === BACKSLASH ? 2 : 1;
  }
}

function endOfNumber(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && '0123456789.eE+-'.includes(text.charAt(at))) at += 1;
  return at;
}

/** Whether a number means the same after it went through a double. */
function isExact(source: string): boolean {
  const value = Number(source);
  if (!Number.isFinite(value)) return false;
  if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value);
  return normalize(source) === normalize(String(value));
}

/** Sign, digits without zeros at the ends, and the exponent: equal for equal decimals. */
function normalize(source: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source) ?? [];
  const digits = whole + fraction;
  let start = 0;
  while (digits[start] === '0') start += 1;
  let end = digits.length;
  // Not by /0+$/: that begins anew at every zero of a long row.
  while (end > start && digits[end - 1] === '0') end -= 1;
  if (start === end) return '0';
  return `${sign}${digits.slice(start, end)}e${Number(exponent) - fraction.length + digits.length - end}`;
}

function inexact(path: string, source: string): string {
  return `${placeOf(path)}: the number ${shorten(source)} may be rounded on its way; send it as a string: "${shorten(source)}"`;
}

function overlong(path: string, source: string): string {
  return `${placeOf(path)}: the number ${shorten(source)} has ${source.length} characters, and at most ${MAX_NUMBER_LENGTH} are taken; send it as a string`;
}

function placeOf(path: string): string {
  return path === '' ? 'the body' : path;
}

function shorten(source: string): string {
  return source.length > 40 ? `${source.slice(0, 40)}…` : source;
}

function pathOf(frames: readonly Frame[]): string {
  let path = '';
  for (const frame of frames) {
    if (frame.type === 'array') path += `[${frame.index}]`;
    else path += path === '' ? frame.key : `.${frame.key}`;
  }
  return path;
}
