-- On what terms a chat is worked on: see `Terms` in the contracts.

-- Whether a chat above is in plan mode: its agents change nothing either, those that are at work
-- already and the detached included.
CREATE OR REPLACE FUNCTION plans_above(c chats)
RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF c.parent_id IS NULL THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT 1 FROM lineage(c.id) AS a(id) JOIN chats p ON p.id = a.id
        WHERE p.plan_mode AND p.id <> c.id);
END $$;

CREATE OR REPLACE FUNCTION chat_terms(c chats)
RETURNS json LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT json_build_object(
        'deployment_prompt',
        coalesce((SELECT body FROM prompts WHERE level = 'system'), ''),
        'instructions', coalesce(p.body, ''),
        'compaction_threshold', p.compaction_threshold,
        'skills', (SELECT coalesce(json_agg(json_build_object(
                'name', s.name, 'description', s.description) ORDER BY s.name), '[]')
            FROM (SELECT name, description FROM skills ORDER BY name LIMIT 100) s),
        'plan_mode', c.plan_mode, 'plan_above', plans_above(c), 'reached', reached_limit(c),
        'limited', c.limits IS NOT NULL,
        -- Empty: this turn's answer is free, whatever the chat's form.
        'response_schema', CASE WHEN c.turn_schema IS NULL THEN c.response_schema
            WHEN c.turn_schema::text <> '{}' THEN c.turn_schema END)
        FROM (SELECT 1) AS one
            LEFT JOIN prompts p ON p.level = 'user' AND p.subject = c.owner_id);
END $$;

-- `p_threshold`: of the level `user` alone.
CREATE OR REPLACE FUNCTION put_prompt(
    p_actor uuid, p_level text, p_subject uuid, p_text text, p_threshold integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO prompts (level, subject, body, compaction_threshold)
        VALUES (p_level, p_subject, p_text, p_threshold)
        ON CONFLICT (level, subject) DO UPDATE
            SET body = p_text, compaction_threshold = p_threshold, updated_at = now();
    IF p_level = 'system' THEN
        PERFORM record_audit(p_actor, NULL, 'prompt.changed', json_build_object('text', p_text));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION skill_json(s skills)
RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('name', s.name, 'description', s.description, 'text', s.body,
        'files', s.files, 'updated_at', s.updated_at)
$$;

CREATE OR REPLACE FUNCTION put_skill(
    p_actor uuid, p_name text, p_description text, p_body text, p_files json
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    s skills;
BEGIN
    INSERT INTO skills (name, description, body, files)
        VALUES (p_name, p_description, p_body, p_files)
        ON CONFLICT (name) DO UPDATE
            SET description = p_description, body = p_body, files = p_files, updated_at = now()
        RETURNING * INTO s;
    PERFORM record_audit(p_actor, NULL, 'skill.changed', json_build_object('name', p_name));
    RETURN skill_json(s);
END $$;

CREATE OR REPLACE FUNCTION get_skill(p_name text)
RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    s skills;
BEGIN
    SELECT * INTO s FROM skills WHERE name = p_name;
    IF s.name IS NULL THEN
        PERFORM refuse('not_found', 'no such skill', jsonb_build_object('name', p_name));
    END IF;
    RETURN skill_json(s);
END $$;

CREATE OR REPLACE FUNCTION delete_skill(p_actor uuid, p_name text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM skills WHERE name = p_name;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'no such skill', jsonb_build_object('name', p_name));
    END IF;
    PERFORM record_audit(p_actor, NULL, 'skill.deleted', json_build_object('name', p_name));
END $$;
