/** A certificate authority of one server, and its certificate for 127.0.0.1 and localhost. */
import { join } from 'node:path';
import { type Account, writeFor } from './accounts.ts';
import type { Certificates } from './engine.ts';
import { run } from './processes.ts';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Made with openssl, as whom the server runs: servers refuse keys that others may read. */
export async function makeCertificates(folder: string, as: Account | null): Promise<Certificates> {
  const openssl = (...args: string[]) => run('openssl', args, { folder, as });
  const subject = (name: string) => ['-subj', `/CN=${name}`];
  await openssl(
    ...['req', '-x509', '-days', '2', ...KEY, ...subject('DungBeetle test authority')],
    ...['-keyout', 'authority.key', '-out', 'authority.pem'],
  );
  await openssl('req', ...KEY, ...subject('localhost'), '-keyout', 'server.key', '-out', 'server.csr');
  writeFor(as, join(folder, 'names'), 'subjectAltName = DNS:localhost, IP:127.0.0.1\n');
  await openssl(
    ...['x509', '-req', '-days', '2', '-in', 'server.csr', '-out', 'server.pem', '-extfile', 'names'],
    ...['-CA', 'authority.pem', '-CAkey', 'authority.key', '-CAcreateserial'],
  );
  return {
    ca: join(folder, 'authority.pem'),
    certificate: join(folder, 'server.pem'),
    key: join(folder, 'server.key'),
  };
}
