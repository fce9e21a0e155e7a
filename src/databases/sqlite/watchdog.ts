/**
 * A thread that ends its process when the process that made it is gone. It reads from a pipe into which
 * nobody ever writes: its end is the parent's end, however that came about (a SIGKILL too).
 */
import { Socket } from 'node:net';
import { workerData } from 'node:worker_threads';

const lifeline = new Socket({ fd: Number(workerData), readable: true, writable: false });
lifeline.on('error', end);
lifeline.on('close', end);
lifeline.resume();

function end(): void {
  process.kill(process.pid, 'SIGKILL');
}
