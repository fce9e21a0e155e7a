/** Keeps Debian from starting daemons, and PostgreSQL's packages from making a cluster, while we install. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';

const POLICY = '/usr/sbin/policy-rc.d';
const SAVED = `${POLICY}.before-dungbeetle`;
const OURS = '#!/bin/sh\n# For as long as the tests of DungBeetle install packages.\nexit 101\n';
const CLUSTERS = '/etc/postgresql-common/createcluster.d';
const CLUSTERS_CONF = `${CLUSTERS}/dungbeetle-tests.conf`;

/** Whether the machine's own policy starts no daemons as it is, as in most containers. */
function denies(): boolean {
  try {
    execFileSync(POLICY, ['mariadb', 'start'], { stdio: 'ignore' });
    return false;
  } catch (error) {
    return (error as { status?: unknown }).status === 101;
  }
}

function restorePolicy(): void {
  if (existsSync(POLICY) && readFileSync(POLICY, 'utf8') === OURS) rmSync(POLICY);
  if (existsSync(SAVED)) renameSync(SAVED, POLICY);
}

/** What it finds changed it puts back, also what a run that was killed had changed. */
export async function withoutDaemons<T>(install: () => Promise<T>): Promise<T> {
  restorePolicy();
  if (!denies()) {
    if (existsSync(POLICY)) renameSync(POLICY, SAVED);
    writeFileSync(POLICY, OURS);
    chmodSync(POLICY, 0o755);
  }
  const made = mkdirSync(CLUSTERS, { recursive: true });
  writeFileSync(CLUSTERS_CONF, 'create_main_cluster = false\n');
  try {
    return await install();
  } finally {
    restorePolicy();
    rmSync(CLUSTERS_CONF);
    if (made !== undefined) rmdirIfEmpty(CLUSTERS);
  }
}

function rmdirIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // a package has put something there
  }
}
