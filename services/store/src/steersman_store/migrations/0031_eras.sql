-- An era lasts from one crash of PostgreSQL to the next. What was committed without waiting for the
-- disk can be lost with a crash only, and exactly a crash empties an unlogged table.
CREATE UNLOGGED TABLE eras (
    id text NOT NULL,
    single boolean PRIMARY KEY DEFAULT true CHECK (single)
);

-- The era in which the open calls of the chat were stored, from which on its owner may have begun
-- them; NULL: none was begun yet.
ALTER TABLE chats ADD COLUMN calls_era text;
