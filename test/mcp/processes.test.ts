import { describe, expect, test } from 'vitest';
import { newId } from '../support/client.ts';
import { createDatabase, hasPostgres, realPostgres } from '../support/engines.ts';
import { callTool, connectStdio } from '../support/mcp.ts';

describe.runIf(hasPostgres)('three MCP processes on one PostgreSQL', () => {
  test('keep all of 50 concurrent creates each, and of observations added to one entity by all', async () => {
    const { server, endpoint } = await realPostgres();
    const variables = {
      DATABASE_URL: server.url(await createDatabase()),
      LAMINA_NEON_ENDPOINT: endpoint.url,
      LAMINA_TOKEN: 'lam_test_owner_0123456789',
    };
    const opened = await Promise.all([1, 2, 3].map(() => connectStdio(variables)));
    const shared = `shared ${newId()}`;
    const entity = (name: string) => ({ name, entityType: 't', observations: [] });
    const [{ client: first }] = opened as [(typeof opened)[0]];
    await callTool(first, 'create_entities', { entities: [entity(shared)] });
    const refused: string[] = [];
    const check = async (calling: ReturnType<typeof callTool>) => {
      const { isError, content } = await calling;
      if (isError) refused.push(JSON.stringify(content));
    };
    await Promise.all(
      opened.flatMap(({ client }, process) =>
        Array.from({ length: 50 }, (_, at) => at).flatMap((at) => [
          check(callTool(client, 'create_entities', { entities: [entity(`p${process}-${at}`), entity(`all-${at}`)] })),
          check(
            callTool(client, 'add_observations', {
              observations: [{ entityName: shared, contents: [`seen by ${process} at ${at}`] }],
            }),
          ),
        ]),
      ),
    );
    expect(refused).toEqual([]);
    // After the window every process sees what the others were told.
    await new Promise((resolve) => setTimeout(resolve, 1100));
    for (const { client } of opened) {
      const { structuredContent } = await callTool(client, 'read_graph');
      const { entities } = structuredContent as { entities: { name: string; observations: string[] }[] };
      expect(entities).toHaveLength(1 + 3 * 50 + 50);
      expect(entities.find(({ name }) => name === shared)?.observations).toHaveLength(150);
    }
    await Promise.all(opened.map(({ client }) => client.close()));
  }, 120_000);
});
