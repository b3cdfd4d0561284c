-- Desktops that run, each for the person whose chat it is: the limit per person holds over all hosts.
-- No reference to the chat: the desktop of one that was deleted runs, and counts, until its host has
-- heard of it.
CREATE TABLE desktop_claims (
    chat_id uuid PRIMARY KEY,
    owner_id uuid NOT NULL,
    host text NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX desktop_claims_owner ON desktop_claims (owner_id);
