-- How models are called, what they cost, and who may come in.

ALTER TABLE providers
    ADD COLUMN headers bytea,              -- a JSON object, encrypted as the key is
    ADD COLUMN header_names text[] NOT NULL DEFAULT '{}',
    ADD COLUMN version bigint NOT NULL DEFAULT 1;

ALTER TABLE models
    ADD COLUMN settings json NOT NULL DEFAULT '{}',  -- ModelSettings, checked; never with a NUL
    -- Where its prices are from; NULL: nobody has looked yet.
    ADD COLUMN prices_source text CHECK (prices_source IN ('list', 'edited')),
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    -- Soft: a preset that an admin has removed must not come back at the next start.
    ADD COLUMN deleted_at timestamptz,
    ADD CONSTRAINT models_default_exists CHECK (deleted_at IS NULL OR NOT is_default);

ALTER TABLE users ADD COLUMN disabled_at timestamptz;

ALTER TABLE messages ADD COLUMN cost bigint CHECK (cost >= 0);  -- micro-units; NULL: not known

-- What every chat has used, by day and model. No foreign keys: the sums outlive chats and models.
CREATE TABLE usage_days (
    chat_id uuid NOT NULL,
    day date NOT NULL,                     -- UTC
    model text NOT NULL,
    user_id uuid NOT NULL,                 -- the owner of the chat
    steps bigint NOT NULL,
    unknown_steps bigint NOT NULL,         -- of them, those whose cost is not known
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    cost bigint NOT NULL,                  -- micro-units, over the other steps
    PRIMARY KEY (chat_id, day, model)
);
CREATE INDEX usage_days_by_user ON usage_days (user_id, day);

-- From before there were prices: the tokens count, the cost is not known.
INSERT INTO usage_days
    SELECT m.chat_id, (m.created_at AT TIME ZONE 'UTC')::date, m.model, c.owner_id,
            count(*), count(*),
            sum(coalesce((m.usage ->> 'input_tokens')::bigint, 0)),
            sum(coalesce((m.usage ->> 'output_tokens')::bigint, 0)),
            sum(coalesce((m.usage ->> 'reasoning_tokens')::bigint, 0)),
            sum(coalesce((m.usage ->> 'cache_read_tokens')::bigint, 0)),
            sum(coalesce((m.usage ->> 'cache_write_tokens')::bigint, 0)), 0
        FROM messages m JOIN chats c ON c.id = m.chat_id
        WHERE m.usage IS NOT NULL AND m.model IS NOT NULL
        GROUP BY 1, 2, 3, 4;
