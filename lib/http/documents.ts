import { readFile } from 'node:fs/promises';
import { type Route, route } from './route.ts';

/** What people read: the OpenAPI document and the page made of it, both files made by `npm run generate`. */
export const documentRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/openapi.json',
    operationId: 'openapi',
    tag: 'Documents',
    summary: 'This document',
    scope: null,
    answers: { 200: { description: 'OpenAPI 3.1.' } },
    problems: [],
    async handle() {
      const body = await readFile(new URL('./openapi.json', import.meta.url), 'utf8');
      return { body, headers: { 'cache-control': 'public, max-age=300' } };
    },
  }),
  route({
    method: 'get',
    path: '/docs',
    operationId: 'docs',
    tag: 'Documents',
    summary: 'The API for people',
    scope: null,
    answers: { 200: { description: 'A page.', contentType: 'text/html' } },
    problems: [],
    async handle() {
      const headers = {
        'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
        'cache-control': 'public, max-age=300',
      };
      const body = await readFile(new URL('./docs.html', import.meta.url), 'utf8');
      return { body, contentType: 'text/html; charset=utf-8', headers };
    },
  }),
  route({
    method: 'get',
    path: '/',
    operationId: 'home',
    tag: 'Documents',
    summary: 'Leads to the documentation',
    scope: null,
    answers: { 302: { description: 'To `/docs`.' } },
    problems: [],
    handle: () => ({ status: 302, headers: { location: '/docs' } }),
  }),
];
