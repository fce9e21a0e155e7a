/** TLS for people: files that are checked before they are used, and what a handshake failed with, in words. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';

export interface CertificateFiles {
  /** Paths of PEM files, or null. */
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** A file of a certificate or key that is of no use. */
export class TlsFileError extends Error {
  readonly code = 'ERR_TLS_FILE';

  constructor(message: string) {
    super(message);
    this.name = 'TlsFileError';
  }
}

/** The files' contents as Node's TLS takes them. Throws `TlsFileError`, which names the file and what is wrong with it. */
export async function readCertificates({ ca, cert, key }: CertificateFiles): Promise<{
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
}> {
  const authority = ca === null ? null : await read(ca);
  if (ca !== null && authority !== null) checkAuthority(ca, authority);
  if (cert === null || key === null) return authority === null ? {} : { ca: authority };
  const own = { cert: await read(cert), key: await read(key) };
  checkPair({ cert, key }, own);
  return authority === null ? own : { ...own, ca: authority };
}

async function read(name: string): Promise<Buffer> {
  // A name that is relative is told with the folder that it was looked for in.
  const path = resolve(name);
  try {
    return await readFile(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const why = { ENOENT: 'is not there', EACCES: 'may not be read', EISDIR: 'is a folder' }[String(code)];
    if (why === undefined) throw error;
    throw new TlsFileError(`the file ${path} ${why}`);
  }
}

const CERTIFICATE = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----/;

/** OpenSSL passes over what is no certificate, and then trusts nobody without saying why. */
function checkAuthority(path: string, pem: Buffer): void {
  if (!CERTIFICATE.test(pem.toString('latin1'))) {
    throw new TlsFileError(
      `the file ${path} has no certificate (a line "-----BEGIN CERTIFICATE-----" in PEM)`,
    );
  }
  parsed(path, pem);
}

function parsed(path: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    // OpenSSL's own words say nothing to who does not know its source.
    throw new TlsFileError(`the file ${path} has no certificate that can be read (it must be PEM)`);
  }
}

function checkPair(
  paths: { readonly cert: string; readonly key: string },
  files: { cert: Buffer; key: Buffer },
) {
  const certificate = parsed(paths.cert, files.cert);
  const key = privateKey(paths.key, files.key);
  if (!certificate.checkPrivateKey(key)) {
    throw new TlsFileError(`the key in ${paths.key} does not belong to the certificate in ${paths.cert}`);
  }
}

function privateKey(path: string, pem: Buffer) {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    const isEncrypted = error instanceof Error && 'code' in error && error.code === 'ERR_MISSING_PASSPHRASE';
    throw new TlsFileError(
      isEncrypted
        ? `the key in ${path} has a passphrase; give one that has none`
        : `the file ${path} has no private key that can be read (it must be PEM)`,
    );
  }
}

/** By Node's code of the error. */
const WORDS: readonly (readonly [RegExp, string])[] = [
  [/^DEPTH_ZERO_SELF_SIGNED_CERT$/, 'its certificate is signed by itself; name it as the authority to trust'],
  [
    /^(SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?|UNABLE_TO_VERIFY_LEAF_SIGNATURE|CERT_SIGNATURE_FAILURE)$/,
    'its certificate is not signed by an authority that is trusted here; name the authority’s certificate',
  ],
  [/^CERT_HAS_EXPIRED$/, 'its certificate has expired'],
  [/^CERT_NOT_YET_VALID$/, 'its certificate is not valid yet; compare the clocks'],
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, 'its certificate is for another name than the one it was reached by'],
  [/WRONG_VERSION_NUMBER$|PACKET_LENGTH_TOO_LONG$/, 'what answers there does not speak TLS'],
  [/ALERT_UNKNOWN_CA$/, 'it does not trust the authority that has signed our certificate'],
  [
    /ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|NO_CERTIFICATE)$/,
    'it wants a certificate of ours, or another one',
  ],
  [/ALERT_CERTIFICATE_(EXPIRED|REVOKED|UNKNOWN)$/, 'it refuses our certificate'],
  [
    /UNSUPPORTED_PROTOCOL$|ALERT_PROTOCOL_VERSION$|NO_PROTOCOLS_AVAILABLE$/,
    'it speaks only a version of TLS that is not taken here (1.2 and later are)',
  ],
  [
    /ALERT_HANDSHAKE_FAILURE$|NO_SHARED_CIPHER$|NO_CIPHERS_AVAILABLE$/,
    'it has no cipher in common with us, or wants a certificate of ours',
  ],
  [/KEY_TOO_SMALL$|MD_TOO_WEAK$/, 'its certificate is too weak to be trusted (a short key or an old hash)'],
  [/^ERR_(SSL|OSSL)_/, 'the encrypted connection failed'],
];

/** OpenSSL's texts for a certificate that is not taken: a driver may have put a code of its own over Node's. */
const CODES: readonly (readonly [string, string])[] = [
  ['self-signed certificate in certificate chain', 'SELF_SIGNED_CERT_IN_CHAIN'],
  ['self-signed certificate', 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  ['unable to verify the first certificate', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
  ['unable to get local issuer certificate', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'],
  ['certificate has expired', 'CERT_HAS_EXPIRED'],
  ['certificate is not yet valid', 'CERT_NOT_YET_VALID'],
  ["Hostname/IP does not match certificate's altnames", 'ERR_TLS_CERT_ALTNAME_INVALID'],
];

/** Node's code of an error of TLS; '' where it has none. */
function codeOf(error: Error): string {
  const own = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (own !== '' && own !== 'EPROTO' && own !== 'HANDSHAKE_SSL_ERROR') return own;
  // OpenSSL's reason stands in the message where Node has no code of its own for it.
  const [, reason] =
    /^[0-9A-F]{1,32}:error:[0-9A-F]{1,16}:[^:]{0,99}:[^:]{0,99}:([^:]{1,99}):/i.exec(error.message) ?? [];
  if (reason !== undefined) return `ERR_SSL_${reason.toUpperCase().replaceAll(' ', '_')}`;
  return CODES.find(([text]) => error.message.startsWith(text))?.[1] ?? '';
}

/** What TLS failed with, in words, or null: the error is of another kind. OpenSSL's own code stands behind it. */
export function tlsText(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const code = codeOf(error);
  const found = WORDS.find(([pattern]) => pattern.test(code));
  return found === undefined ? null : `TLS: ${found[1]} (${code})`;
}

/** What a connection failed with, for a message. */
export function connectionText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // An attempt at several addresses fails with an AggregateError that has no message.
  return tlsText(error) ?? (error.message === '' && 'code' in error ? String(error.code) : error.message);
}
