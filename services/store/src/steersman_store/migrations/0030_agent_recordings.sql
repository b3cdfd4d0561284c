-- What was recorded of agents that use a desktop, for their reports.

CREATE TABLE agent_recordings (
    agent_id uuid NOT NULL REFERENCES chats ON DELETE CASCADE,
    chat_id uuid NOT NULL,                 -- whose desktop it is; its recordings go with that chat
    recording_id text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, recording_id)
);
