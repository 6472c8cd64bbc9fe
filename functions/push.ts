import { runBlockCommand } from './block-command.ts';
import { pushBlocks } from './block-sync.ts';

// npm run push -- AGENTS.md: takes what was edited in the blocks of a file to the contexts they come from.
await runBlockCommand('Say which file: npm run push -- AGENTS.md [--id ID] [--url URL]', {
  run: pushBlocks,
  canPrefer: false,
});
