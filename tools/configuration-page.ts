import * as z from 'zod';
import { settingsSchema } from '../lib/config/settings.ts';

interface Described {
  description?: string;
  default?: unknown;
  type?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  anyOf?: Described[];
  items?: { enum?: string[] };
  properties?: Record<string, Described>;
}

/** docs/configuration.md: every setting of the schema with its default, range and meaning. */
export function configurationPage(): string {
  const schema = z.toJSONSchema(settingsSchema, { io: 'input' }) as Described;
  const sections = Object.entries(schema.properties ?? {}).map(([name, section]) => {
    const rows = describeSettings(name, section);
    const table = rows.length === 0 ? [] : ['', '| key | default | range | meaning |', '|---|---|---|---|', ...rows];
    return [`## ${name}`, '', section.description ?? '', ...table, ''].join('\n');
  });
  return `# Configuration

<!-- Made by npm run generate from lib/config/settings.ts; edit it there. -->

\`config/context.yaml\` (or the file \`LAMINA_CONFIG\` names) holds what may differ between deployments. Every key is
optional; an unknown one stops the start and names its path. Addresses and secrets come from the environment, which the
README lists.

${sections.join('\n')}`;
}

/** A row for each setting, those of nested groups by their whole path. */
function describeSettings(path: string, { properties = {} }: Described): string[] {
  return Object.entries(properties).flatMap(([key, setting]) => {
    const own = `${path}.${key}`;
    const about = setting.description ?? '';
    if (setting.properties !== undefined) return [`| \`${own}\` | | | ${about} |`, ...describeSettings(own, setting)];
    return [`| \`${own}\` | \`${JSON.stringify(setting.default)}\` | ${describeRange(setting)} | ${about} |`];
  });
}

function describeRange(setting: Described): string {
  const [first, ...others] = setting.anyOf ?? [setting];
  if (first === undefined) return '';
  const orNull = others.some((other) => other.type === 'null') ? ' or null' : '';
  if (first.type === 'boolean') return 'true, false';
  if (first.type === 'array') return `any of ${(first.items?.enum ?? []).join(', ')}`;
  const low = first.exclusiveMinimum === undefined ? String(first.minimum) : `above ${first.exclusiveMinimum}`;
  return first.maximum === undefined ? `${low} or more${orNull}` : `${low} to ${first.maximum}${orNull}`;
}
