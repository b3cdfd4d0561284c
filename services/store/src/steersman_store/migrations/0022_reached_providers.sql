-- Whether a provider has ever answered at the address that it has.

-- Since when it has this address without having answered a call; NULL: it has answered one.
ALTER TABLE providers ADD COLUMN unreached_since timestamptz DEFAULT now();

-- From before anybody took note of it.
UPDATE providers SET unreached_since = NULL;
