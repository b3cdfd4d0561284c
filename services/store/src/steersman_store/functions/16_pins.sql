-- Pins: positions are dense, 1 to n, for each person; whoever else is moved is announced as well.

-- One change of a person's pins at a time. Taken before any chat is locked: two changes that wait
-- for each other's chats would never end.
CREATE OR REPLACE FUNCTION lock_pins(p_user uuid)
RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(hashtextextended(p_user::text, 0)) $$;

-- Puts the pin of a chat at a position (1 is first, beyond the end is last), or takes it away
-- (NULL). The others make room or close the gap. Returns who else was moved.
CREATE OR REPLACE FUNCTION move_pin(p_user uuid, p_chat uuid, p_position integer)
RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    present integer;
    others integer;
    wanted integer;
    moved uuid[];
BEGIN
    SELECT pin_position INTO present FROM chat_marks WHERE user_id = p_user AND chat_id = p_chat;
    SELECT count(*) INTO others FROM chat_marks
        WHERE user_id = p_user AND pin_position IS NOT NULL AND chat_id <> p_chat;
    wanted := CASE WHEN p_position IS NOT NULL THEN least(p_position, others + 1) END;
    IF wanted IS NOT DISTINCT FROM present THEN
        RETURN '{}';
    END IF;
    WITH changed AS (
        UPDATE chat_marks m SET pin_position = target.n
            FROM (
                SELECT chat_id, n + (p_position IS NOT NULL AND n >= wanted)::integer AS n FROM (
                    SELECT chat_id, row_number() OVER (ORDER BY pin_position)::integer AS n
                        FROM chat_marks
                        WHERE user_id = p_user AND pin_position IS NOT NULL AND chat_id <> p_chat
                ) AS in_order
            ) AS target
            WHERE m.user_id = p_user AND m.chat_id = target.chat_id AND m.pin_position <> target.n
            RETURNING m.chat_id
    )
    SELECT coalesce(array_agg(chat_id), '{}') INTO moved FROM changed;
    INSERT INTO chat_marks (user_id, chat_id, pin_position) VALUES (p_user, p_chat, wanted)
        ON CONFLICT (user_id, chat_id) DO UPDATE SET pin_position = excluded.pin_position;
    RETURN moved;
END $$;

CREATE OR REPLACE FUNCTION touch_all(p_chats uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c chats;
BEGIN
    FOR c IN SELECT * FROM chats WHERE id = ANY (p_chats) ORDER BY id FOR UPDATE LOOP
        PERFORM touch_chat(c);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION pin_chat(p_actor uuid, p_chat uuid, p_position integer)
RETURNS transition_result LANGUAGE plpgsql AS $$
DECLARE
    c chats;
    before integer;
    moved uuid[];
BEGIN
    PERFORM lock_pins(p_actor);
    c := lock_chat(p_chat, p_actor);
    IF p_position IS NOT NULL THEN
        PERFORM next_status(c, 'update');  -- what is archived stays below what is pinned
    END IF;
    SELECT pin_position INTO before FROM chat_marks WHERE user_id = p_actor AND chat_id = c.id;
    moved := move_pin(p_actor, c.id, p_position);
    IF before IS DISTINCT FROM
        (SELECT pin_position FROM chat_marks WHERE user_id = p_actor AND chat_id = c.id)
    THEN
        c := touch_chat(c);
    END IF;
    PERFORM touch_all(moved);
    RETURN answer(json_build_object('chat', chat_json(c)));
END $$;

-- The pins of chats that are put away, or for good; the caller holds `lock_pins` of their owner.
CREATE OR REPLACE FUNCTION drop_pins(p_user uuid, p_chats uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    dropped uuid;
    moved uuid[] := '{}';
BEGIN
    FOR dropped IN SELECT chat_id FROM chat_marks
        WHERE user_id = p_user AND pin_position IS NOT NULL AND chat_id = ANY (p_chats)
    LOOP
        moved := moved || move_pin(p_user, dropped, NULL);
    END LOOP;
    PERFORM touch_all(ARRAY(SELECT DISTINCT m FROM unnest(moved) AS m WHERE m <> ALL (p_chats)));
END $$;
