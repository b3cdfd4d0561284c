-- Agents: chats that other chats spawn, wait for, and take along.

ALTER TABLE chats
    ADD COLUMN root_id uuid,               -- NULL: it is the root
    ADD COLUMN agent_kind text,
    -- The call that spawned it: asked for again, it is the same agent.
    ADD COLUMN spawn_message bigint,
    ADD COLUMN spawn_call text,
    ADD COLUMN detached boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX chats_by_spawn ON chats (parent_id, spawn_message, spawn_call)
    WHERE spawn_call IS NOT NULL;

-- A parent that can be compared, for an index over both kinds of lists.
CREATE FUNCTION no_parent(parent uuid) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(parent, '00000000-0000-0000-0000-000000000000'::uuid)
$$;
DROP INDEX chats_by_owner;
CREATE INDEX chats_by_owner ON chats (owner_id, no_parent(parent_id), updated_at DESC, id DESC);

-- Calls of chats in requires_action that agents answer. Gone as soon as they are answered, or the
-- action is over.
CREATE TABLE waits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chat_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    call_id text NOT NULL,
    agent_ids uuid[] NOT NULL,             -- no foreign keys: one that is gone is done
    any_of boolean NOT NULL,
    deadline timestamptz NOT NULL,
    UNIQUE (chat_id, call_id)
);

-- What happened to a chat and has still to reach its agents, each in a transaction of its own:
-- `interrupt` ends their turns, `put_away` archives them as well, `orphans` does so with those whose
-- spawning message was edited away.
CREATE TABLE cascades (
    chat_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('interrupt', 'put_away', 'orphans')),
    PRIMARY KEY (chat_id, kind)
);

-- The tree that a sum belongs to: what deleted agents have cost stays with their root.
ALTER TABLE usage_days ADD COLUMN root_id uuid;
UPDATE usage_days SET root_id = chat_id;
ALTER TABLE usage_days ALTER COLUMN root_id SET NOT NULL;
CREATE INDEX usage_days_by_root ON usage_days (root_id);
