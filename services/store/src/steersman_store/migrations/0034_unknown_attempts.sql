-- Of an attempt that was cut off, or whose worker died, nobody knows what it has used.
ALTER TABLE side_usage ALTER COLUMN usage DROP NOT NULL;
