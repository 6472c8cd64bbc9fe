import { runBlockCommand } from './block-command.ts';
import { pullBlocks } from './block-sync.ts';

// npm run pull -- AGENTS.md: brings contexts into the blocks of a file; with --id, that one, at the end where it has none.
await runBlockCommand('Say which file: npm run pull -- AGENTS.md [--id ID] [--prefer ours|theirs] [--url URL]', {
  run: pullBlocks,
  canPrefer: true,
});
