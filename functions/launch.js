// The door of every npm script, in plain JavaScript so that an old Node can still read it: it checks the
// runtime in one sentence, then runs the TypeScript (or the tool) it was given in the same process.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `Lamina needs Node 22.18 or newer and this is ${process.versions.node}: install a newer Node, or let npm install the optional package "node" (npm ci without --omit=optional and --ignore-scripts).`,
  );
  process.exit(1);
}
const [, , target, ...rest] = process.argv;
process.argv.splice(1, process.argv.length - 1, target, ...rest);
const { resolve } = await import('node:path');
const { pathToFileURL } = await import('node:url');
await import(pathToFileURL(resolve(target)).href);
