// Does what probes.json says, and prints what came of it: a line of JSON for each.
// Node has no way to name a system call: it does what it has a function for.
'use strict';
const fs = require('fs'), net = require('net'), os = require('os'), { spawnSync } = require('child_process');

const ok = (f) => (...args) => { f(...args); return 'ok'; };

const put = (path, flags, content) => {
  const fd = fs.openSync(path, flags, 0o666);
  try { fs.writeSync(fd, content); } finally { fs.closeSync(fd); }
  return 'ok';
};

const connect = (to) => new Promise((resolve, reject) => {
  const s = net.connect(to, () => { s.destroy(); resolve('ok'); });
  s.setTimeout(3000, () => { s.destroy(); reject({ errno: -os.constants.errno.ETIMEDOUT }); });
  s.on('error', reject);
});

const verbs = {
  read: (path) => {
    const fd = fs.openSync(path, 'r'), b = Buffer.alloc(1 << 16);
    try { return b.toString('utf8', 0, fs.readSync(fd, b, 0, b.length, null)); } finally { fs.closeSync(fd); }
  },
  list: (path) => fs.readdirSync(path).sort().join(' '),
  links: (path) => fs.readdirSync(path).map((f) => { try { return fs.readlinkSync(path + '/' + f); } catch { return ''; } }).join('\n'),
  write: (path, content) => put(path, fs.constants.O_WRONLY, content),
  create: (path) => put(path, 'wx', ''),
  link: ok(fs.linkSync),
  symlink: ok(fs.symlinkSync),
  connect: (host, port) => connect({ host, port: +port }),
  connect6: (host, port) => connect({ host, port: +port, family: 6 }),
  abstract: (name) => connect({ path: '\0' + name }),
  kill: ok((pid, sig) => process.kill(+pid, +sig)),
  setuid: ok((uid) => process.setuid(+uid)),
  setgid: ok((gid) => process.setgid(+gid)),
  nice: ok((n) => os.setPriority(+n)),
  env: () => Object.keys(process.env).sort().join(' '),
  run: (program, ...args) => {
    const p = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    if (p.error) throw p.error;
    return p.status + ' ' + p.stdout.trim();
  },
};

(async () => {
  for (const { name, verb, args } of JSON.parse(fs.readFileSync('probes.json'))) {
    let result;
    try {
      result = await verbs[verb](...args);
    } catch (e) {
      if (typeof e.errno !== 'number') throw e;
      result = 'errno ' + Math.abs(e.errno);
    }
    fs.writeSync(1, JSON.stringify({ name, result }) + '\n');
  }
})();
