/** The API as a page without scripts, made from the OpenAPI document. */
export function docsPage(openapi: Record<string, unknown>): string {
  const { info, paths, tags, components } = openapi as unknown as OpenApi;
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, ...operation })),
  );
  const inTag = (name: string) => operations.filter((operation) => operation.tags.includes(name));
  const menu = tags
    .map(
      ({ name }) =>
        `<li><b>${escapeHtml(name)}</b><ul>${inTag(name)
          .map((one) => `<li><a href="#${one.operationId}">${escapeHtml(one.summary)}</a></li>`)
          .join('')}</ul></li>`,
    )
    .join('\n');
  const sections = tags
    .map(({ name }) => `<h2>${escapeHtml(name)}</h2>\n${inTag(name).map(section).join('\n')}`)
    .join('\n');
  const schemas = Object.entries(components.schemas)
    .map(([name, schema]) => `<details id="schema-${name}"><summary>${name}</summary>${code(schema)}</details>`)
    .join('\n');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(info.title)} API</title>
<style>${style}</style>
</head>
<body>
<nav><h1>${escapeHtml(info.title)}</h1><p>${escapeHtml(info.summary)}</p><ul>${menu}<li><b>Schemas</b><ul><li><a href="#schemas">All of them</a></li></ul></li></ul></nav>
<main>
<h1>API <small>${escapeHtml(info.version)}</small></h1>
<p>${markdown(info.description)}</p>
<p>Send the token as <code>Authorization: Bearer …</code>. The document for programs is <a href="/openapi.json">/openapi.json</a>.</p>
${sections}
<h2 id="schemas">Schemas</h2>
${schemas}
</main>
</body>
</html>
`;
}

interface Operation {
  operationId: string;
  summary: string;
  description?: string;
  tags: string[];
  parameters: { name: string; in: string; required: boolean; description?: string; schema: Record<string, unknown> }[];
  requestBody?: { content: Record<string, { schema?: Record<string, unknown>; example?: unknown }> };
  responses: Record<
    string,
    { description: string; content?: Record<string, { schema?: Record<string, unknown>; example?: unknown }> }
  >;
}

interface OpenApi {
  info: { title: string; version: string; summary: string; description: string };
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
}

function section(operation: Operation & { path: string; method: string }): string {
  const parameters = operation.parameters.map(
    (one) =>
      `<tr><td><code>${escapeHtml(one.name)}</code>${one.required ? '' : ' <i>optional</i>'}</td><td>${one.in}</td><td>${markdown(one.description ?? '')} ${range(one.schema)}</td></tr>`,
  );
  const [type, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const responses = Object.entries(operation.responses).map(([status, one]) => {
    const [answer] = Object.values(one.content ?? {});
    const example = Number(status) < 400 && answer?.example !== undefined ? code(answer.example) : '';
    return `<tr><td class="s${status[0]}">${status}</td><td>${markdown(one.description)}${reference(answer?.schema)}${example}</td></tr>`;
  });
  return `<article id="${operation.operationId}">
<h3><a href="#${operation.operationId}">${escapeHtml(operation.summary)}</a></h3>
<p class="route"><span class="${operation.method}">${operation.method.toUpperCase()}</span> <code>${escapeHtml(operation.path)}</code></p>
<p>${markdown(operation.description ?? '')}</p>
${parameters.length ? `<table>${parameters.join('')}</table>` : ''}
${body ? `<h4>Body <small>${escapeHtml(type ?? '')}</small>${reference(body.schema)}</h4>${body.example === undefined ? '' : code(body.example)}` : ''}
<h4>Answers</h4><table>${responses.join('')}</table>
</article>`;
}

function range(schema: Record<string, unknown>): string {
  if (Array.isArray(schema['enum']))
    return schema['enum'].map((one) => `<code>${escapeHtml(String(one))}</code>`).join(' ');
  return schema['default'] === undefined ? '' : `Default <code>${escapeHtml(String(schema['default']))}</code>.`;
}

function reference(schema: Record<string, unknown> | undefined): string {
  const name = typeof schema?.['$ref'] === 'string' ? schema['$ref'].split('/').at(-1) : undefined;
  return name === undefined || name === 'Problem' ? '' : ` <a href="#schema-${name}">${name}</a>`;
}

const code = (value: unknown) => `<pre>${escapeHtml(JSON.stringify(value, null, 2))}</pre>`;
const escapeHtml = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
const markdown = (text: string) => escapeHtml(text).replace(/`([^`]+)`/g, '<code>$1</code>');

const style = `
:root{color-scheme:light dark;--line:light-dark(#e3e1dc,#34322e);--soft:light-dark(#f6f5f2,#211f1c);--ink:light-dark(#24211c,#ece9e2);--dim:light-dark(#6d675c,#a29b8d);--link:light-dark(#0b5cad,#7db8f5)}
*{box-sizing:border-box}html{scroll-padding-top:1rem}
body{margin:0;display:grid;grid-template-columns:17rem minmax(0,1fr);font:15px/1.55 system-ui,sans-serif;color:var(--ink);background:light-dark(#fff,#181714)}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1.5rem;background:var(--soft);border-right:1px solid var(--line);font-size:14px}
nav h1{margin:0;font-size:1.3rem}nav p{margin:.2rem 0 1rem;color:var(--dim)}nav ul{list-style:none;margin:0;padding:0}nav ul ul{margin:.1rem 0 .9rem}
main{padding:2rem 3rem 6rem;max-width:62rem}a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
h2{margin:3rem 0 0;padding-bottom:.3rem;border-bottom:2px solid var(--line)}article{padding:1.4rem 0;border-bottom:1px solid var(--line)}
h3{margin:0}h3 a{color:inherit}h4{margin:1rem 0 .3rem}small,i{color:var(--dim);font-weight:400}
.route{margin:.3rem 0}.route span{display:inline-block;min-width:4.2rem;padding:.05rem .5rem;border-radius:4px;color:#fff;font-weight:600;font-size:12px;text-align:center}
.get{background:#2f6f4f}.post{background:#1d5a96}.put{background:#8a5a12}.patch{background:#6c4a91}.delete{background:#a23838}
code,pre{font:13px/1.5 ui-monospace,monospace}code{background:var(--soft);padding:.05rem .25rem;border-radius:3px}
pre{margin:.5rem 0;padding:.8rem 1rem;background:var(--soft);border:1px solid var(--line);border-radius:6px;overflow:auto}
table{border-collapse:collapse;width:100%}td{vertical-align:top;padding:.35rem .8rem .35rem 0;border-top:1px solid var(--line)}td:first-child{white-space:nowrap}
.s2,.s3{color:light-dark(#2f6f4f,#7fcaa0);font-weight:600}.s4,.s5{color:light-dark(#a23838,#f09a9a);font-weight:600}
details{margin:.4rem 0}summary{cursor:pointer}@media(max-width:50rem){body{display:block}nav{position:static;height:auto}main{padding:1.5rem}}
`.replaceAll('\n', '');
