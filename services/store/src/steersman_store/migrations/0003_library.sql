-- Finding chats again: labels, pins, what was read, text search.

ALTER TABLE chats ADD COLUMN labels jsonb NOT NULL DEFAULT '{}';
CREATE INDEX chats_by_label ON chats USING gin (labels jsonb_path_ops);

-- What one person has marked. Positions of pins are dense, 1 to n, for each person.
CREATE TABLE chat_marks (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    chat_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    last_read_id bigint NOT NULL DEFAULT 0,
    pin_position integer CHECK (pin_position > 0),
    PRIMARY KEY (user_id, chat_id),
    UNIQUE (user_id, pin_position) DEFERRABLE INITIALLY DEFERRED
);

-- The words of a message. Here and not among the functions, because an index is built on it.
CREATE FUNCTION search_text(content json) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN left((SELECT string_agg(part ->> 'text', ' ')
        FROM jsonb_array_elements(content::text::jsonb) AS part
        WHERE part ->> 'type' = 'text'), 200000);
EXCEPTION WHEN untranslatable_character OR invalid_text_representation THEN
    -- A NUL in it: jsonb refuses those. The words are found all the same.
    RETURN left(regexp_replace(content::text, '\\u0000', ' ', 'g'), 200000);
END $$;

CREATE INDEX messages_by_word ON messages USING gin (to_tsvector('simple', search_text(content)))
    WHERE role IN ('user', 'assistant') AND deleted_at IS NULL;
CREATE INDEX chats_by_word ON chats USING gin (to_tsvector('simple', title));
