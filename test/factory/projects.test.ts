import { describe, expect, test } from 'vitest';
import { projectOf } from '../../lib/factory/project.ts';

const ofRemote = (gitRemote: string) => projectOf({ gitRemote, cwd: '/x', session: 's' });
const ofFolder = (cwd: string) => projectOf({ gitRemote: undefined, cwd, session: 's' });

describe('a project', () => {
  test.each([
    ['https://github.com/acme/shop.git', 'github.com/acme/shop'],
    ['https://user:tok3n@GitHub.com:443/acme/shop/', 'github.com/acme/shop'],
    ['git@github.com:acme/shop.git', 'github.com/acme/shop'],
    ['user:pass@github.com:acme/shop', 'github.com/acme/shop'],
    ['ssh://git@github.com:22//acme/shop', 'github.com/acme/shop'],
    ['https://github.com/acme/shop.git?private_token=hunter2hunter#x', 'github.com/acme/shop'],
    ['ssh://git@github.com:2222/acme/shop', 'github.com:2222/acme/shop'],
    ['https://[::1]:8443/acme/shop', '[::1]:8443/acme/shop'],
    ['https://ann:s3@cret@github.com/acme/shop', 'github.com/acme/shop'],
    ['hg::https://ann:s3cret@example.com/shop', 'example.com/shop'],
    ['persistent-https://ann:s3cret@example.com/shop', 'example.com/shop'],
    ['svn2+ssh://ann:s3cret@example.com/shop', 'example.com/shop'],
    ['ann:s3cret@example.com:team/shop', 'example.com/team/shop'],
  ])('by its remote %s is %s', (remote, place) => {
    expect(ofRemote(remote).place).toEqual({ name: 'shop', gitRemote: place });
    expect(ofRemote(remote).id).toBe(ofRemote(`https://${place}`).id);
  });

  test.each([
    'C:\\repo\\x',
    './a:b',
    'https://',
    'file:///srv/x',
    `https://h/${'a'.repeat(3000)}`,
    '',
    // What stands before a later `@` may be a part of a password.
    'codecommit::eu-west-1://s3cret@app',
    '//ann:s3cret@example.com/app',
    'https://ann:s3/cret@example.com/app',
    'https://h/s3cret@x',
  ])('has no remote by %j, and goes by its folder', (remote) => {
    expect(ofRemote(remote).id).toBe(ofFolder('/x').id);
  });

  test.each([
    ['C:\\work\\shop', 'c:/work/shop/'],
    ['/home/dev/shop', '/home//dev/./x/../shop/'],
    ['/home/dev/caf\u00e9', '/home/dev/cafe\u0301'],
  ])('by its folder %j is the same as by %j', (one, other) => {
    expect(ofFolder(one).id).toBe(ofFolder(other).id);
  });

  test('is told from another by what was sent, not by what is left of it', () => {
    const [one, other] = ['aB3dE6gHaB3dE6gHaB3dE6gH', 'xY3dE6gHaB3dE6gHaB3dE6gH'].map((key) =>
      ofFolder(`/home/ghp_${key}`),
    );
    expect(one?.place).toEqual(other?.place);
    expect(JSON.stringify(one)).not.toContain('aB3d');
    expect(one?.id).not.toBe(other?.id);
  });

  test('of an event that tells of no place is its session alone', () => {
    const of = (session: string) => projectOf({ gitRemote: undefined, cwd: undefined, session });
    expect(of('a').id).not.toBe(of('b').id);
    expect(of('a')).toEqual({ ...of('a'), place: { name: 'unknown' } });
  });
});
