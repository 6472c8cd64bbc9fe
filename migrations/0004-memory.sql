-- The knowledge graph of the memory tools: which contexts are its entities and relations, in order of creation, and which
-- relations end where. Kept by whatever makes a version (keep_memory_node), whichever door it came through.

create table memory_node (
  space_id text collate "C" not null,
  id text collate "C" not null,
  position bigint not null generated always as identity,
  from_id text collate "C",
  to_id text collate "C",
  primary key (space_id, id)
);
comment on table memory_node is 'A row for each live context of kind memory.entity or memory.relation whose id is one that lib/contexts/node-ids.ts makes.';
comment on column memory_node.position is 'Grows with each node that begins or comes back to life.';
comment on column memory_node.from_id is 'The entity where a relation begins, whether there is one or not; null for an entity.';

create index memory_node_from on memory_node (space_id, from_id) where from_id is not null;
create index memory_node_to on memory_node (space_id, to_id) where to_id is not null;

alter table memory_node enable row level security;
alter table memory_node force row level security;
create policy own_space on memory_node to lamina_app
  using (space_id = current_setting('lamina.space', true))
  with check (space_id = current_setting('lamina.space', true));
grant select, insert, update, delete on memory_node to lamina_app;
