/** A client of the server that costs little. */
import { type Agent, request as httpRequest } from 'node:http';

/** What the benches read of a job. */
export interface JobStatus {
  readonly job_id: string;
  readonly state: string;
  readonly error: string;
  readonly queue_ms: number;
}

/** `data` of the answer; rejects unless it is 200. */
// Plain node:http: on two cores the client's own cost counts, and fetch costs three times as much.
export function send(agent: Agent, url: string, method: string, body?: string): Promise<JobStatus> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { agent, method }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(text).data);
        else reject(new Error(`${method} ${url}: ${response.statusCode} ${text}`));
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}
