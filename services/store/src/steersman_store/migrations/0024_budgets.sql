-- Budgets of trees: what turns and the agents below them have used, for the limits of turns.

-- What a chat and the agents below it have ever used: steps of models, tokens, micro-units of cost.
-- Several rows for each, so that many agents at once do not wait for one row; and without a foreign
-- key, whose check would lock the chats above the one that a transaction holds.
CREATE TABLE spending (
    chat_id uuid NOT NULL,
    slot smallint NOT NULL,
    steps bigint NOT NULL,
    tokens bigint NOT NULL,
    cost bigint NOT NULL,
    PRIMARY KEY (chat_id, slot)
) WITH (fillfactor = 50);

-- Of a message that begins a turn: the sums of `spending` at that moment. NULL is nothing.
ALTER TABLE messages ADD COLUMN spent_before bigint[];
CREATE INDEX messages_of_people ON messages (chat_id, id)
    WHERE role = 'user' AND visibility = 'both' AND deleted_at IS NULL;

-- It was not taken back before; from here on it says why a chat waits, if it does.
UPDATE chats SET limit_reached = NULL
    WHERE limit_reached IS NOT NULL
        AND NOT (status = 'requires_action' AND action_calls IS NULL);
CREATE INDEX chats_at_a_limit ON chats (id)
    WHERE status = 'requires_action' AND limit_reached IS NOT NULL;
