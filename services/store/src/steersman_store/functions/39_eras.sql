-- Which crash of PostgreSQL was the last one.

CREATE OR REPLACE FUNCTION current_era() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    era text;
BEGIN
    SELECT id INTO era FROM eras;
    IF NOT FOUND THEN
        -- Of two at once, the second one waits, and takes what the first one has made.
        INSERT INTO eras (id) VALUES (gen_random_uuid()::text) ON CONFLICT DO NOTHING;
        SELECT id INTO era FROM eras;
    END IF;
    RETURN era;
END $$;
