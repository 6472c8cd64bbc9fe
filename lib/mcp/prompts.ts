/** The prompts we offer: what a user can start from a menu of their client. */
export const prompts = [
  {
    name: 'save_session',
    title: 'Save This Session',
    description: 'Have the agent keep what this session decided, did and left open, for the next one to go on from.',
    arguments: [
      { name: 'project', description: 'Id of the context of the project, such as checkout', required: false },
    ],
  },
];

/** The messages of a prompt; undefined where there is none of that name. */
export function getPrompt(name: string, args: Readonly<Record<string, string>> | undefined) {
  if (name !== 'save_session') return undefined;
  const project = args?.['project'];
  const where = project ? `, parentId "${project}"` : '';
  const text = [
    'Write a summary of this session for the agent that will go on with the work:',
    'what was decided and why, what was changed and where, what is still open, and what to do next.',
    `Store it with context_put: kind "session.summary", contentType "text/markdown"${where}.`,
    'Then tell me its id.',
  ].join(' ');
  return {
    description: prompts[0]?.description,
    messages: [{ role: 'user' as const, content: { type: 'text' as const, text } }],
  };
}
