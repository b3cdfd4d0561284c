-- What a provider calls the answer that a message is.

ALTER TABLE messages ADD COLUMN response_id text; -- NULL: not from a model, or it gave none
