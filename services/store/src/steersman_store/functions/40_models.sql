-- Which models can be used, and which one takes the place of another.

-- Whether a provider wants a key and has none. One with an address of its own may want none, and
-- one with extra headers may be given it there.
CREATE OR REPLACE FUNCTION lacks_key(p providers)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p.api_key IS NULL AND p.headers IS NULL AND (
        p.type IN ('anthropic-bedrock', 'anthropic-vertex', 'google-vertex')
        OR p.base_url IS NULL
            AND p.type IN ('anthropic', 'openai-responses', 'openai-chat', 'google'))
$$;

-- Why a model cannot be called, in the words of `ModelAccess.disabled`; NULL if it can.
CREATE OR REPLACE FUNCTION obstacle(m models, p providers)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN m.deleted_at IS NOT NULL THEN 'config'
        WHEN NOT (m.enabled AND p.enabled) THEN 'provider_disabled'
        WHEN lacks_key(p) THEN 'missing_key' END
$$;

-- The model that takes the place of one that is gone or disabled; NULL if it is neither, or if
-- there is no other. A missing key is no reason: the chat says so, and an admin can add it.
CREATE OR REPLACE FUNCTION replacement(p_model text)
RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF is_offered(p_model) THEN
        RETURN NULL;
    END IF;
    RETURN preferred_model();
END $$;

CREATE OR REPLACE FUNCTION is_offered(p_model text)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM models m JOIN providers p ON p.id = m.provider_id
        WHERE m.name = p_model AND m.enabled AND p.enabled AND m.deleted_at IS NULL)
$$;

-- The default, or else the first that can be called, or else the first.
CREATE OR REPLACE FUNCTION preferred_model()
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT m.name FROM models m JOIN providers p ON p.id = m.provider_id
        WHERE m.enabled AND p.enabled AND m.deleted_at IS NULL
        ORDER BY m.is_default DESC, lacks_key(p), m.name LIMIT 1
$$;
