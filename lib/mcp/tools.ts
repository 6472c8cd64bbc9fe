import { contextTools } from './context-tools.ts';
import { memoryTools } from './memory-tools.ts';
import type { Tool } from './tool.ts';

const tools: readonly Tool[] = [...contextTools, ...memoryTools];
const byName = new Map(tools.map((one) => [one.name, one]));

/** What `tools/list` answers: made once, in a stable order. */
export const listedTools = tools.map(({ listed }) => listed);

export const findTool = (name: string): Tool | undefined => byName.get(name);
