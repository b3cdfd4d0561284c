-- Long work: what models are told, skills, plan mode, limits of turns, the form of answers.

-- `subject`: the person; NULL for the whole deployment.
CREATE TABLE prompts (
    level text NOT NULL CHECK (level IN ('system', 'user')),
    subject uuid REFERENCES users ON DELETE CASCADE,
    body text NOT NULL CHECK (length(body) <= 10000),
    compaction_threshold integer CHECK (compaction_threshold BETWEEN 1 AND 100),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (level, subject),
    CHECK ((level = 'system') = (subject IS NULL))
);

-- Skills that every chat of the deployment has.
CREATE TABLE skills (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    description text NOT NULL CHECK (length(description) BETWEEN 1 AND 1024),
    body text NOT NULL,
    files json NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE chats
    ADD COLUMN plan_mode boolean NOT NULL DEFAULT false,
    ADD COLUMN plan json,            -- the newest one that was proposed, and what became of it
    ADD COLUMN limits json,          -- of one turn
    ADD COLUMN limit_reached json,   -- while a turn waits for a person to raise one
    ADD COLUMN response_schema json; -- JSON Schema of the final answer
