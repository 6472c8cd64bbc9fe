import { expect, test } from 'vitest';
import { normalizeRemote } from '../../lib/factory/project.ts';

test('a git remote tells its project, and nothing that may be a password', () => {
  const remotes: Record<string, string | undefined> = {
    'https://github.com/acme/shop.git': 'github.com/acme/shop',
    'https://ann:s3cret@GitHub.com:8443/acme/shop/': 'github.com/acme/shop',
    'https://ann:s3@cret@github.com/acme/shop': 'github.com/acme/shop',
    'git@github.com:acme/shop.git': 'github.com/acme/shop',
    'github.com:acme/shop.git': 'github.com/acme/shop',
    'ssh://git@github.com:22/acme/shop': 'github.com/acme/shop',
    'hg::https://ann:s3cret@example.com/app': 'example.com/app',
    'persistent-https://ann:s3cret@example.com/app': 'example.com/app',
    'svn2+ssh://ann:s3cret@example.com/app': 'example.com/app',
    'codecommit::eu-west-1://s3cret@app': undefined,
    'ann:s3cret@example.com:team/app': undefined,
    '//ann:s3cret@example.com/app': undefined,
    'https://ann:s3/cret@example.com/app': undefined,
    '/srv/git/app.git': undefined,
    '': undefined,
  };
  for (const [remote, project] of Object.entries(remotes))
    expect([remote, normalizeRemote(remote)]).toEqual([remote, project]);
});
