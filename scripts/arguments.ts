/** The flags of a command of the project's own: what is not one of them is told with those that are. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';

type Flags = Readonly<Record<string, string | boolean>>;

/**
 * Each flag by its name with its default: a text, or false for one without a value. Ends the process after `--help`, or
 * with code 2 where something is not understood.
 */
export function flagsOf<F extends Flags>(
  command: string,
  defaults: F,
): { readonly [N in keyof F]: F[N] extends boolean ? boolean : string } {
  const options: ParseArgsOptionsConfig = Object.fromEntries(
    Object.entries(defaults).map(([name, value]) => [
      name,
      typeof value === 'boolean' ? { type: 'boolean', default: value } : { type: 'string', default: value },
    ]),
  );
  const flags = Object.entries(defaults).map(([name, value]) =>
    typeof value === 'boolean' ? `[--${name}]` : `[--${name} ${value === '' ? 'VALUE' : value}]`,
  );
  const usage = `usage: npm run ${command} -- ${flags.join(' ')}`;
  try {
    const { values } = parseArgs({ options: { ...options, help: { type: 'boolean', default: false } } });
    if (values['help'] === true) {
      console.log(usage);
      process.exit(0);
    }
    return values as { [N in keyof F]: F[N] extends boolean ? boolean : string };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    console.error(`${error.message}\n${usage}`);
    process.exit(2);
  }
}
