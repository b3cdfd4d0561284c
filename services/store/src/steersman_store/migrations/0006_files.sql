-- Files of people, where titles come from, and what was used beside the steps of turns.

CREATE TABLE files (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name text NOT NULL CHECK (length(name) <= 255),
    -- NULL together until the upload is finished.
    media_type text,
    size integer CHECK (size >= 0),
    sha256 text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- NULL as long as a chat refers to it.
    expires_at timestamptz
);
CREATE INDEX files_by_owner ON files (owner_id) WHERE expires_at IS NOT NULL;
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE file_chunks (
    file_id uuid NOT NULL REFERENCES files ON DELETE CASCADE,
    index smallint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (file_id, index)
);
-- Images and PDFs are compressed already: trying again would only cost time.
ALTER TABLE file_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

-- Which chats refer to a file: forks share what their history refers to.
CREATE TABLE chat_files (
    chat_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    file_id uuid NOT NULL REFERENCES files ON DELETE CASCADE,
    attached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (chat_id, file_id)
);
CREATE INDEX chat_files_by_file ON chat_files (file_id);

ALTER TABLE chats
    ADD COLUMN title_source text NOT NULL DEFAULT 'auto'
        CHECK (title_source IN ('auto', 'generated', 'person')),
    ADD COLUMN title_attempts smallint NOT NULL DEFAULT 0,
    -- A person asked for another title, also in place of their own.
    ADD COLUMN title_requested boolean NOT NULL DEFAULT false;

-- What models used for something else than a step of a turn, such as a title.
CREATE TABLE side_usage (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chat_id uuid REFERENCES chats ON DELETE SET NULL,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    purpose text NOT NULL,
    model text NOT NULL,
    usage json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX side_usage_by_chat ON side_usage (chat_id);
CREATE INDEX side_usage_by_user ON side_usage (user_id, created_at);

-- Messages in another form than the present one are converted before they are stored.
ALTER TABLE messages ADD CONSTRAINT messages_content_version CHECK (content_version = 1);
