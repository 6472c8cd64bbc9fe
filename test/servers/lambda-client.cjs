// In the place of the compiled half of AWS's runtime client: the same four calls over HTTP, so that nothing has to be compiled.
// Loaded before it, and in CommonJS, since it asks for that half by `require`. It also tells with each poll what keeps the
// process awake, and moves the clocks of the process by what the Runtime API says has passed while it stood still.
const { Agent, request } = require('node:http');
const Module = require('node:module');

const agent = new Agent({ keepAlive: true });
let answering = Promise.resolve();

function call(method, path, body, headers) {
  const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
  return new Promise((resolve, reject) => {
    const full = `/2018-06-01/runtime/invocation/${path}`;
    request({ agent, hostname, port, method, path: full, headers }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('end', () => resolve({ bodyJson: Buffer.concat(pieces).toString(), headers: response.headers }));
    })
      .on('error', reject)
      .end(body);
  });
}

const now = { wall: Date.now, running: performance.now };
let shift = { wallMs: 0, runningMs: 0 };
Date.now = () => now.wall() + shift.wallMs;
performance.now = () => now.running.call(performance) + shift.runningMs;
const RealDate = Date;
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, self) => Reflect.construct(target, args.length === 0 ? [RealDate.now()] : args, self),
});

const client = {
  initializeClient() {},
  async next() {
    await answering;
    const awake = process.getActiveResourcesInfo().filter((name) => !/^(TCP|TTY|Pipe|FS|File|Signal)/.test(name));
    const { user, system } = process.cpuUsage();
    const headers = { 'lamina-awake': awake.join(','), 'lamina-cpu': String((user + system) / 1000) };
    const answer = await call('GET', 'next', undefined, headers);
    if (answer.headers['lamina-shift'] !== undefined) shift = JSON.parse(answer.headers['lamina-shift']);
    return answer;
  },
  done(id, body) {
    answering = call('POST', `${id}/response`, body);
  },
  error(id, body, xray) {
    answering = call('POST', `${id}/error`, body, { 'lambda-runtime-function-xray-error-cause': xray });
  },
};

const load = Module._load;
Module._load = (name, ...rest) => (name === './rapid-client.node' ? client : load(name, ...rest));
