import { describe, expect, test } from 'vitest';
import { maskAndCut, maskText, maskValue } from '../../lib/factory/masking.ts';

const mixed = 'aB3dE6gH';
/** Put together here, so that nobody who scans this file takes them for real. */
const of = (prefix: string, times: number, unit = mixed) => `${prefix}${unit.repeat(times)}`;

/** Each with the part that has to be gone. */
const secrets: readonly (readonly [text: string, secret: string])[] = [
  // Assignments, whatever the name is spelled like.
  ['SECRET_KEY=abc123def', 'abc123def'],
  ['secret_key_base: 0a1b2c3d4e5f', '0a1b2c3d4e5f'],
  ['DB_PASS=hunter2', 'hunter2'],
  ['export ENCRYPTION_KEY=hunter2hunter', 'hunter2hunter'],
  ['TOKEN_V2=xyzzy99plugh', 'xyzzy99plugh'],
  ["const secretKey = 'hunter2hunter'", 'hunter2hunter'],
  ['{"secret_key": "hunter2hunter"}', 'hunter2hunter'],
  ['spring.datasource.password=hunter2hunter', 'hunter2hunter'],
  ["'password' => 'hunter2hunter'", 'hunter2hunter'],
  ["config['api-key'] = 'hunter2hunter'", 'hunter2hunter'],
  ['password := "hunter2hunter"', 'hunter2hunter'],
  ['if (password === "hunter2hunter")', 'hunter2hunter'],
  ['password = f"hunter2hunter"', 'hunter2hunter'],
  ['PGPASSWORD=hunter2 psql', 'hunter2'],
  ['password: correcthorse', 'correcthorse'],
  ['curl -d "{\\"password\\":\\"hunter2hunter\\"}"', 'hunter2hunter'],
  ['\'{\\\\\\"token\\\\\\":\\\\\\"hunter2hunter\\\\\\"}\'', 'hunter2hunter'],
  [`api_key="${of('', 200)}"`, of('', 100)],
  ['password=$hunter2-and-more', 'hunter2-and-more'],
  ['pwd=truehunter', 'truehunter'],
  ['secret: nonesuch99', 'nonesuch99'],
  ['password="undefined behaviour 7"', 'undefined behaviour 7'],
  ['the password is `hunter2hunter`', 'hunter2hunter'],
  ['the staging password (hunter2!)', 'hunter2!'],
  ['- name: DB_PASSWORD\n  value: hunter2hunter', 'hunter2hunter'],
  ['{"name":"Authorization","value":"hunter2hunter"}', 'hunter2hunter'],
  ['{\\"key\\":\\"API_KEY\\",\\"value\\":\\"hunter2hunter\\"}', 'hunter2hunter'],
  // URLs and command lines.
  ['git clone https://abcdefghijklmnop1234@git.example/x', 'abcdefghijklmnop1234'],
  ['https://abcdefghijklmnop1234:x-oauth-basic@github.com/x', 'abcdefghijklmnop1234'],
  ['https://maps.example/api?key=abcd1234efgh&q=1', 'abcd1234efgh'],
  ['https://x.blob.example/c?sv=1&sig=ab12cd34ef%3D', 'ab12cd34ef'],
  ['postgres://u:p@ss@host/db', 'p@ss'],
  ['postgres://u:hunt/er2@host/db', 'hunt/er2'],
  ['redis://:hunter2@host:6379', 'hunter2'],
  ['mongodb://a:hunter2@h1/x,mongodb://b:hunter3@h2/y', 'hunter3'],
  ['tool --password hunter2', 'hunter2'],
  ['tool --api-token "hunter2 hunter2"', 'hunter2 hunter2'],
  ['curl -u user:hunter2 https://x.example', 'hunter2'],
  ['curl --user "user:hunter2" https://x.example', 'hunter2'],
  ['curl -b "sid=hunter2hunter" https://x.example', 'hunter2hunter'],
  ["sshpass -p 'hunter2' ssh h", 'hunter2'],
  ['mysql -u root -phunter2 db', 'hunter2'],
  ['docker login -u me -p hunter2', 'hunter2'],
  ['machine h.example login u password hunter2', 'hunter2'],
  ['//registry.example/:_auth=aHVudGVyMg==', 'aHVudGVyMg'],
  ['Cookie: theme=dark; sid=hunter2hunter', 'hunter2hunter'],
  ['Authorization: Basic dTpw', 'dTpw'],
  ['-H "Authorization: hunter2hunter"', 'hunter2hunter'],
  ['send Bearer hunter2hunter2', 'hunter2hunter2'],
  // What is known by how it begins.
  ...[
    of('glsa_', 4),
    of('glc_', 5),
    of('tskey-auth-', 3),
    of('rubygems_', 6, 'a1b2c3d4'),
    of('sbp_', 5, 'a1b2c3d4'),
    of('pscale_pw_', 5),
    of('ATATT3x', 12),
    of('CFPAT-', 6),
    of('NRAK-', 3, 'ABC123DEF'),
    of('ntn_', 6),
    of('secret_', 5, 'aB3dE6gHi').slice(0, 50),
    of('r8_', 5),
    of('tvly-', 4),
    of('vercel_blob_rw_', 6),
    of('ABSK', 12),
    of('ops_eyJ', 12),
    of('123456789:AA', 5),
    of('https://discord.com/api/webhooks/123456789012345678/', 8),
    of('abc8Q~', 5),
    of('https://hooks.slack.com/triggers/T012/345/', 4),
    of('ghp_', 5),
    of('glpat-', 3),
    of('xoxb-', 4),
    of('sk_live_', 4),
    of('sk-ant-api03-', 12),
    of('npm_', 5),
    of('AKIA', 2, 'ABCD1234'),
    of('SG.', 3) + of('.', 5),
    of('lam_default_', 1) + of('_', 3),
    of('hvs.', 4),
    of('AIza', 5),
    of('eyJ', 2) + of('.eyJ', 2) + of('.', 4),
  ].map((token) => [`it is ${token}, ok`, token.slice(-20)] as const),
  [`-----BEGIN RSA PRIVATE KEY-----\n${of('', 4000)}\n-----END RSA PRIVATE KEY----- after`, of('', 2)],
  [`-----BEGIN PRIVATE KEY-----\n${of('', 4000)}`, of('', 2)],
];

const variable = (name: string) => `$\{${name}}`;
const harmless: readonly string[] = [
  'commit 3f786850e387550fdab836ed7e6dc881de23001b fixes it',
  'id 5e550000-0000-4000-8000-000000000002, sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
  'see /home/dev/project/src/token/password.ts:12:5 and C:\\src\\secret\\index.ts',
  'password = getPassword()',
  'const token = await fetchToken(user);',
  'const password = req.body.password;',
  'token := os.Getenv("API_TOKEN")',
  'connect(password=password, token=token)',
  'function login(user: string, password: string): Promise<Token> {',
  'interface Login { password?: string; token: string | null }',
  'password: process.env.DB_PASSWORD',
  `password: ${variable('DB_PASSWORD')}`,
  'PASSWORD=$DB_PASSWORD',
  'Authorization: Bearer $TOKEN',
  `Authorization: Bearer ${variable('LAMINA_TOKEN')}`,
  '"password": "<your password>"',
  `token: ${variable('{ secrets.GITHUB_TOKEN }')}`,
  'credentials: "include"',
  'password_file: /run/secrets/db_password',
  'SSH_PRIVATE_KEY=~/.ssh/id_ed25519',
  'max_tokens: 4096, total_tokens=1200',
  'The secret: patience. The token: whitespace.',
  'tests pass: 12, failed: 0; PASS: lib/a.test.ts',
  'the primary key: user_id_2024; cacheKey = "user:12345"',
  'public_key: ssh_host_rsa_2048',
  'use --token to authenticate, or --password-file',
  'we split the token `GITHUB_TOKEN` from the token (see below)',
  'git@github.com:acme/shop.git and ssh://git@github.com/acme/shop',
  'https://unpkg.com/react@18.2.0/umd and http://localhost:8080/a@b',
  'https://example.com/search?q=password&key=name&page=2',
  'docker run -u 1000:1000 image',
  'Token::parse(input) and Secret::new()',
  '.sk-loading-indicator-large { color: red }',
  'bearer authentication is used here',
  'a cookie: it is sweet',
  '{"usage":{"tokens":"1200","token_count":12}}',
];

describe('masking', () => {
  test.each(secrets)('takes what is secret out of %j', (text, secret) => {
    expect(maskText(text)).not.toContain(secret);
    expect(maskText(text)).toContain('[masked:');
  });

  test.each(harmless)('leaves %j', (text) => {
    expect(maskText(text)).toBe(text);
  });

  test('done twice, it changes nothing more', () => {
    for (const [text] of secrets) expect(maskText(maskText(text))).toBe(maskText(text));
  });

  test('leaves JSON what it was', () => {
    const text = JSON.stringify({ password: 'hunter2hunter', token: 'xyzzy99', url: 'https://u:hunter2@h/' });
    expect(JSON.parse(maskText(text))).toEqual({
      password: '[masked:secret]',
      token: '[masked:secret]',
      url: 'https://u:[masked:password]@h/',
    });
  });

  test('shows no half of a secret where a text is cut', () => {
    const token = of('ghp_', 5);
    for (const max of [100, 1000]) {
      for (let back = 1; back < token.length; back += 7) {
        // What is masked before the cut makes room for what stands there.
        const filler = `${of('ghp_', 25)} `.repeat(30);
        const before = `${filler}${'word '.repeat(2000)}`.slice(0, max + 4096 - back - 1);
        expect(maskAndCut(`${before} ${token} more`, max)).not.toContain('ghp_');
      }
    }
    expect(maskAndCut('x'.repeat(20_000), 100)).toBe(`${'x'.repeat(100)} …`);
  });

  test('goes by the names of members, however deep the value lies below them', () => {
    const masked = maskValue(
      {
        password: ['hunter2'],
        pin: { password: 12345678 },
        db: { password: { value: 'hunter2', type: 'string', description: 'Which one to use' } },
        tokens: ['xyzzy99'],
        env: [
          { name: 'DB_PASSWORD', value: 'hunter2' },
          { name: 'Authorization', value: 'hunter2' },
          { name: 'LANG', value: 'en_GB' },
        ],
        headers: { authorization: 'hunter2', Cookie: 'a=hunter2' },
        auth: { user: 'me', pass: 'hunter2' },
        usage: { tokens: { input: 12, output: '7' }, max_tokens: 4096 },
        passwordless: 'yes',
        key: 'value',
        isToken: true,
      },
      1000,
    );
    expect(JSON.stringify(masked)).not.toMatch(/hunter2|xyzzy|12345678/);
    expect(masked).toMatchObject({
      db: { password: { type: 'string', description: 'Which one to use' } },
      env: [{}, {}, { name: 'LANG', value: 'en_GB' }],
      auth: { user: 'me' },
      usage: { tokens: { input: 12, output: '7' }, max_tokens: 4096 },
      passwordless: 'yes',
      key: 'value',
      isToken: true,
    });
  });

  test('of a value with very many members it keeps the first', () => {
    const many = Object.fromEntries(Array.from({ length: 50_000 }, (_, at) => [`m${at}`, [at]]));
    const kept = Object.keys(maskValue(many, 100) as object);
    expect([kept.length, kept[0]]).toEqual([10_000, 'm0']);
  });
});
