import { z } from 'zod';
import { settingsSchema } from '../lib/config/settings.ts';

interface Described {
  description?: string;
  default?: unknown;
  type?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  anyOf?: Described[];
  properties?: Record<string, Described>;
}

/** docs/configuration.md: every setting of the schema with its default, range and meaning. */
export function configurationPage(): string {
  const schema = z.toJSONSchema(settingsSchema, { io: 'input' }) as Described;
  const sections = Object.entries(schema.properties ?? {}).map(([name, section]) => {
    const rows = Object.entries(section.properties ?? {}).map(([key, setting]) => {
      const value = JSON.stringify(setting.default);
      return `| \`${name}.${key}\` | \`${value}\` | ${describeRange(setting)} | ${setting.description ?? ''} |`;
    });
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

function describeRange(setting: Described): string {
  const [first, ...others] = setting.anyOf ?? [setting];
  if (first === undefined) return '';
  const orNull = others.some((other) => other.type === 'null') ? ' or null' : '';
  if (first.type === 'boolean') return 'true, false';
  const low = first.exclusiveMinimum === undefined ? String(first.minimum) : `above ${first.exclusiveMinimum}`;
  return `${low} to ${first.maximum}${orNull}`;
}
