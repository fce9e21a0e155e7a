/** A reporter for node:test: the reason of each test and suite that was skipped, as a line of JSON. */
import type { TestEvent } from 'node:test/reporters';

// biome-ignore lint/style/noDefaultExport: node:test takes a reporter from a module's default export
export default async function* skips(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { skip } = event.data;
    if (skip !== undefined && skip !== false) yield `${JSON.stringify(skip === true ? 'no reason' : skip)}\n`;
  }
}
