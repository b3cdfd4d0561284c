-- Desktops: agents that use the one of the chat above them, and VNC servers that people have named.

ALTER TABLE chats ADD COLUMN shares_desktop boolean NOT NULL DEFAULT false;

CREATE TABLE desktop_servers (
    chat_id uuid PRIMARY KEY REFERENCES chats ON DELETE CASCADE,
    address text NOT NULL,
    password bytea,                        -- sealed; NULL: it wants none
    updated_at timestamptz NOT NULL DEFAULT now()
);
