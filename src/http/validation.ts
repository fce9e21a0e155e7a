/** Checks the parts of a request against their schemas, and says in words what does not fit. */
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';
import { didYouMean } from '../util/suggest.ts';
import { ApiError } from './errors.ts';

/** For Fastify's `setValidatorCompiler`. Nothing is converted: what passes is what was sent. */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const validator = Compile(schema);
  return (value: unknown) => {
    const overlong = overlongList(schema as Node, value, []);
    if (overlong !== null) return { error: new ApiError('invalid_request', overlong) };
    if (validator.Check(value)) return { value };
    const [error] = validator.Errors(value);
    const message = error === undefined ? undefined : explain(error, schema, value, httpPart ?? 'body');
    return { error: new ApiError('invalid_request', message) };
  };
};

/** A schema as JSON Schema, as far as a path can lead through it. */
interface Node {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly items?: Node;
  readonly maxItems?: number;
  /** A type or null. */
  readonly anyOf?: readonly Node[];
}

/** Told before anything else: to explain what is wrong with each of half a million items takes seconds. */
function overlongList(schema: Node, value: unknown, tokens: readonly string[]): string | null {
  if (typeof value !== 'object' || value === null) return null;
  for (const [key, node] of Object.entries(schema.properties ?? {})) {
    const list = Object.hasOwn(value, key) ? (value as Readonly<Record<string, unknown>>)[key] : undefined;
    if (!Array.isArray(list)) continue;
    const { maxItems = Number.POSITIVE_INFINITY, items } = node.anyOf?.[0] ?? node;
    const at = [...tokens, key];
    if (list.length > maxItems) return `${fieldOf(at)}: must ${node.description}, not ${show(list)}`;
    if (items?.properties === undefined) continue;
    for (const [index, item] of list.entries()) {
      const inside = overlongList(items, item, [...at, String(index)]);
      if (inside !== null) return inside;
    }
  }
  return null;
}

function explain(error: TLocalizedValidationError, schema: TSchema, value: unknown, part: string): string {
  const tokens = tokensOf(error.instancePath);
  const unknown = unknownKey(error, tokens);
  if (unknown !== null) {
    const owner = nodeAt(schema as Node, unknown.owner);
    const known = Object.keys(owner?.properties ?? {});
    const kind = part === 'querystring' ? 'unknown parameter' : 'unknown key';
    const takes = known.length === 0 ? 'none is taken here' : `known are ${known.join(', ')}`;
    return `${prefix(unknown.owner)}${kind} "${shorten(unknown.key)}"${didYouMean(unknown.key, known) || `; ${takes}`}`;
  }
  if (error.keyword === 'required') {
    const [missing = ''] = error.params.requiredProperties;
    const rule = nodeAt(schema as Node, [...tokens, missing])?.description;
    return `${fieldOf([...tokens, missing])}: is missing${rule === undefined ? '' : `; it must ${rule}`}`;
  }
  const field = describedAncestor(schema as Node, tokens);
  const wrong = show(valueAt(value, tokens));
  if (field === null) {
    return tokens.length === 0
      ? `the body must be a JSON object, not ${wrong}`
      : `${fieldOf(tokens)}: must be a JSON object, not ${wrong}`;
  }
  const inside =
    tokens.length > field.tokens.length ? `, but ${fieldOf(tokens)} is ${wrong}` : `, not ${wrong}`;
  return `${fieldOf(field.tokens)}: must ${field.description}${inside}`;
}

function unknownKey(
  error: TLocalizedValidationError,
  tokens: readonly string[],
): { readonly owner: readonly string[]; readonly key: string } | null {
  if (error.keyword === 'additionalProperties') {
    const [key = ''] = error.params.additionalProperties;
    return { owner: tokens, key };
  }
  // How the validator reports `additionalProperties: false` at the key itself.
  if (error.keyword === 'boolean') return { owner: tokens.slice(0, -1), key: tokens.at(-1) ?? '' };
  return null;
}

/** The deepest value on the path that has a description, for its rule. */
function describedAncestor(
  schema: Node,
  tokens: readonly string[],
): { readonly tokens: readonly string[]; readonly description: string } | null {
  for (let length = tokens.length; length > 0; length--) {
    const head = tokens.slice(0, length);
    const description = nodeAt(schema, head)?.description;
    if (description !== undefined) return { tokens: head, description };
    // An item of a list of objects is its own: the rule of the list would not explain it.
    if (nodeAt(schema, head)?.properties !== undefined) return null;
  }
  return null;
}

function nodeAt(schema: Node, tokens: readonly string[]): Node | undefined {
  let node: Node | undefined = schema;
  for (const token of tokens) {
    const properties: Readonly<Record<string, Node>> | undefined = node?.properties;
    node = properties !== undefined && Object.hasOwn(properties, token) ? properties[token] : node?.items;
  }
  return node;
}

function valueAt(value: unknown, tokens: readonly string[]): unknown {
  let at = value;
  for (const token of tokens) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, token)) return undefined;
    at = (at as Readonly<Record<string, unknown>>)[token];
  }
  return at;
}

/** A JSON pointer's parts. */
function tokensOf(pointer: string): readonly string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** `jobs[3].retries` */
export function fieldOf(tokens: readonly string[]): string {
  return tokens
    .map((token, i) => (/^\d+$/.test(token) ? `[${token}]` : i === 0 ? token : `.${token}`))
    .join('');
}

function prefix(tokens: readonly string[]): string {
  return tokens.length === 0 ? '' : `${fieldOf(tokens)}: `;
}

/** A value for a message: itself if it is short, else what it is. */
export function show(value: unknown): string {
  if (typeof value === 'string') {
    return value.length <= 64 ? JSON.stringify(value) : `a text of ${value.length} characters`;
  }
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

function shorten(key: string): string {
  return key.length <= 64 ? key : `${key.slice(0, 64)}…`;
}
