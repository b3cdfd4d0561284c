-- Whose feed has copies of a deleted chat's events (NULL: noted before there was such a column), and
-- whether they are gone from it.
ALTER TABLE purges
    ADD COLUMN owner_id uuid,
    ADD COLUMN copies_gone boolean NOT NULL DEFAULT false;
CREATE INDEX purges_with_copies ON purges (chat_id) WHERE owner_id IS NOT NULL AND NOT copies_gone;
