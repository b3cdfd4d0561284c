-- The form of one turn's answer: a message may ask for another one than its chat.

ALTER TABLE queued_messages ADD COLUMN response_schema json; -- NULL: the chat's own; {}: none
ALTER TABLE chats ADD COLUMN turn_schema json;               -- of the newest message of a person
