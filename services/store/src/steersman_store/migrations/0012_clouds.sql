-- Models in the clouds of Amazon and Google.

ALTER TABLE providers
    ADD COLUMN region text,                -- where a cloud serves the models
    ADD COLUMN project text;               -- whose they are, on Vertex AI

-- How hard the model thinks, where a chat or a message says so; NULL: as the model's setting.
ALTER TABLE chats ADD COLUMN effort text;
ALTER TABLE queued_messages ADD COLUMN effort text;

-- Listed prices are looked up anew at the next start: they have tiers now.
UPDATE models SET prices_source = NULL WHERE prices_source = 'list';

-- What titles have used so far joins the sums; what it cost is not known.
INSERT INTO usage_days AS u (chat_id, day, model, user_id, steps, unknown_steps, input_tokens,
        output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost)
    SELECT chat_id, (created_at AT TIME ZONE 'UTC')::date, model, (array_agg(user_id))[1], 0,
            count(*), coalesce(sum((usage ->> 'input_tokens')::numeric), 0)::bigint,
            coalesce(sum((usage ->> 'output_tokens')::numeric), 0)::bigint,
            coalesce(sum((usage ->> 'reasoning_tokens')::numeric), 0)::bigint,
            coalesce(sum((usage ->> 'cache_read_tokens')::numeric), 0)::bigint,
            coalesce(sum((usage ->> 'cache_write_tokens')::numeric), 0)::bigint, 0
        FROM side_usage WHERE chat_id IS NOT NULL GROUP BY 1, 2, 3
    ON CONFLICT (chat_id, day, model) DO UPDATE SET
        unknown_steps = u.unknown_steps + excluded.unknown_steps,
        input_tokens = u.input_tokens + excluded.input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
        cache_read_tokens = u.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens;

-- Parts of chats that are being imported: a chat appears with all of them or not at all.
CREATE TABLE import_chunks (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    client_key text NOT NULL,
    first integer NOT NULL CHECK (first >= 0),  -- the number of its first message
    count integer NOT NULL CHECK (count > 0),
    messages bytea NOT NULL,                    -- JSON, as the request brought it
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_key, first)
);
