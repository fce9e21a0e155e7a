/** The answer where there is no route: with what the path takes, or the path that was probably meant. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from './errors.ts';

interface Route {
  readonly method: string;
  /** What its URL looks like, each parameter being anything between two slashes. */
  readonly pattern: RegExp;
}

/** Call it before the routes are added. Makes the error for a request, and sets Allow on its answer. */
export function notFound(app: FastifyInstance): (request: FastifyRequest, reply: FastifyReply) => ApiError {
  const routes: Route[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    const pattern = new RegExp(`^${url.replaceAll('.', '\\.').replace(/:[^/]+/g, '[^/]+')}$`);
    for (const name of [method].flat()) routes.push({ method: name, pattern });
  });
  const methodsOf = (path: string) =>
    routes.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method);

  return (request, reply) => {
    const [path = ''] = request.url.split('?', 1);
    const methods = methodsOf(path);
    if (methods.length > 0) {
      reply.header('allow', methods.join(', '));
      return new ApiError(
        'not_found',
        `${request.method} is not a method of ${shorten(path)}; it has ${methods.join(', ')}`,
      );
    }
    const tidy = path.replace(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '');
    const hint = tidy !== path && methodsOf(tidy).length > 0 ? `; did you mean ${shorten(tidy)}?` : '';
    return new ApiError('not_found', `there is no ${shorten(path)} here${hint}`);
  };
}

function shorten(path: string): string {
  return path.length <= 200 ? path : `${path.slice(0, 200)}…`;
}
