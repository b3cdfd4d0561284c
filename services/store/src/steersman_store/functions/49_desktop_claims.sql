-- How many desktops a person has, over all hosts. Seconds are those of this database's clock.

-- Counts the desktop of a chat for the owner of the chat, unless that is one too many. A host that
-- had it before is gone: of two that live, the one that got the chat itself asks here.
-- `others` is how many else the owner has. Of a chat that is no more nothing is counted.
CREATE OR REPLACE FUNCTION claim_desktop(
    p_chat uuid, p_host text, p_most integer, p_keep_s double precision,
    OUT claimed boolean, OUT others integer
) LANGUAGE plpgsql AS $$
DECLARE
    person uuid;
BEGIN
    claimed := true;
    others := 0;
    SELECT owner_id INTO person FROM chats WHERE id = p_chat;
    IF person IS NULL THEN
        RETURN;
    END IF;
    -- One start of a person at a time; the count is a statement of its own, and so sees those before.
    PERFORM pg_advisory_xact_lock(hashtextextended('desktops:' || person, 0));
    SELECT count(*) INTO others FROM desktop_claims
        WHERE owner_id = person AND chat_id <> p_chat AND expires_at > clock_timestamp();
    claimed := others < p_most;
    IF claimed THEN
        INSERT INTO desktop_claims (chat_id, owner_id, host, expires_at)
            VALUES (p_chat, person, p_host, clock_timestamp() + make_interval(secs => p_keep_s))
            ON CONFLICT (chat_id) DO UPDATE SET owner_id = excluded.owner_id, host = excluded.host,
                expires_at = excluded.expires_at;
    END IF;
    -- An expired one stays for a day: its host may only have been cut off, and renews it then.
    DELETE FROM desktop_claims WHERE chat_id IN (
        SELECT chat_id FROM desktop_claims
            WHERE owner_id = person AND expires_at < clock_timestamp() - interval '1 day'
            FOR UPDATE SKIP LOCKED
    );
END $$;

-- The desktops of a host still run. Never brings back what the host has given up: a renewal may
-- have been on its way when the desktop ended.
CREATE OR REPLACE FUNCTION renew_desktops(p_host text, p_chats uuid[], p_keep_s double precision)
RETURNS void LANGUAGE sql AS $$
    UPDATE desktop_claims SET expires_at = clock_timestamp() + make_interval(secs => p_keep_s)
        WHERE chat_id = ANY (p_chats) AND host = p_host
$$;
