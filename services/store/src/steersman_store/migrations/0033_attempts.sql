-- Which attempt it was of which nothing is stored: it is counted once.
ALTER TABLE side_usage ADD COLUMN history_version bigint, ADD COLUMN attempt integer;
CREATE UNIQUE INDEX side_usage_once ON side_usage (chat_id, history_version, attempt);
