-- Approvals: calls that a person decides about, and the rules that say which.

ALTER TABLE chats
    -- Beside action_calls, element by element: the question to a person (NULL: no approval is
    -- needed), and the answer (NULL: none yet).
    ADD COLUMN action_asks json[],
    ADD COLUMN action_decisions text[];

-- `subject`: the user or the chat; NULL for the whole deployment.
CREATE TABLE policies (
    level text NOT NULL CHECK (level IN ('system', 'user', 'chat')),
    subject uuid,
    rules json NOT NULL,
    version integer NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (level, subject),
    CHECK ((level = 'system') = (subject IS NULL))
);

-- Approvals that were given for more than one call.
CREATE TABLE grants (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    chat_id uuid REFERENCES chats ON DELETE CASCADE, -- NULL: in every chat of the user
    tool text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (user_id, chat_id, tool)
);

-- Who did what that others may have to account for. Never changed.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor_id uuid,
    chat_id uuid,
    action text NOT NULL,
    details json NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_by_chat ON audit (chat_id, id);
