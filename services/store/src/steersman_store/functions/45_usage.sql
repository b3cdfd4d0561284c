-- What steps cost. Usage and prices are JSON of our own, not of people: it is safe to take apart.

-- A count of tokens. No step has a billion of them: a wrong number must not overflow a sum.
CREATE OR REPLACE FUNCTION tokens_of(p_usage json, p_kind text)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT least(greatest(coalesce((p_usage ->> p_kind)::numeric, 0), 0), 1000000000)::bigint
$$;

-- The prices for a step with this much input: above the threshold of a tier all its tokens cost
-- what the tier says.
CREATE OR REPLACE FUNCTION prices_at(p_prices json, p_input bigint)
RETURNS json LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((SELECT tier FROM json_array_elements(p_prices -> 'tiers') AS tier
            WHERE (tier ->> 'above')::bigint < p_input
            ORDER BY (tier ->> 'above')::bigint DESC LIMIT 1), p_prices)
$$;

-- The cost of one step in micro-units, rounded up; NULL when it is not known. Cached tokens are
-- part of the input and have prices of their own; reasoning is part of the output and has none.
CREATE OR REPLACE FUNCTION step_cost(p_usage json, p_prices json)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    listed json := CASE WHEN p_prices -> 'tiers' IS NULL THEN p_prices
        ELSE prices_at(p_prices, tokens_of(p_usage, 'input_tokens')) END;
    input_price numeric := listed ->> 'input';
    output_price numeric := listed ->> 'output';
    read_price numeric := coalesce(listed ->> 'cache_read', listed ->> 'input');
    write_price numeric := coalesce(listed ->> 'cache_write', listed ->> 'input');
    cached_read bigint := tokens_of(p_usage, 'cache_read_tokens');
    cached_write bigint := tokens_of(p_usage, 'cache_write_tokens');
BEGIN
    IF p_prices ->> 'input' IS NULL OR p_prices ->> 'output' IS NULL THEN
        RETURN NULL;
    END IF;
    IF p_usage IS NULL THEN  -- not reported: only what is free is known
        RETURN CASE WHEN p_prices -> 'tiers' IS NULL
            AND greatest(input_price, output_price, read_price, write_price) = 0
            THEN 0 END;
    END IF;
    RETURN ceil((
        greatest(tokens_of(p_usage, 'input_tokens') - cached_read - cached_write, 0) * input_price
        + cached_read * read_price + cached_write * write_price
        + tokens_of(p_usage, 'output_tokens') * output_price) / 1000000)::bigint;
END $$;

CREATE OR REPLACE FUNCTION cost_at(p_model text, p_usage json)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT step_cost(p_usage, m.settings -> 'prices') FROM models m WHERE m.name = p_model
$$;

-- One row for each chat, day and model. The chat's row is locked, so nobody else writes it.
CREATE OR REPLACE FUNCTION record_usage(c chats, p_model text, p_usage json, p_cost bigint)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO usage_days AS u (chat_id, root_id, day, model, user_id, steps, unknown_steps,
            input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost)
        VALUES (c.id, coalesce(c.root_id, c.id), (now() AT TIME ZONE 'UTC')::date, p_model,
            c.owner_id, 1, (p_cost IS NULL)::integer, tokens_of(p_usage, 'input_tokens'),
            tokens_of(p_usage, 'output_tokens'), tokens_of(p_usage, 'reasoning_tokens'),
            tokens_of(p_usage, 'cache_read_tokens'), tokens_of(p_usage, 'cache_write_tokens'),
            coalesce(p_cost, 0))
        ON CONFLICT (chat_id, day, model) DO UPDATE SET
            steps = u.steps + 1, unknown_steps = u.unknown_steps + excluded.unknown_steps,
            input_tokens = u.input_tokens + excluded.input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
            cache_read_tokens = u.cache_read_tokens + excluded.cache_read_tokens,
            cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
            cost = u.cost + excluded.cost
$$;

-- Sums over chats of `p_actor`, or of everybody (`p_all`). NULL for a filter means none.
CREATE OR REPLACE FUNCTION usage_report(
    p_actor uuid, p_all boolean, p_group_by text, p_first date, p_last date, p_chat uuid,
    p_user uuid, p_limit integer
) RETURNS json LANGUAGE sql STABLE
    SET plan_cache_mode = force_custom_plan AS $$
    WITH chosen AS (
        SELECT u.*, CASE p_group_by WHEN 'day' THEN u.day::text WHEN 'model' THEN u.model
                WHEN 'user' THEN u.user_id::text ELSE u.chat_id::text END AS key
            FROM usage_days u
            WHERE (p_all OR u.user_id = p_actor) AND (p_user IS NULL OR u.user_id = p_user)
                AND (p_first IS NULL OR u.day >= p_first) AND (p_last IS NULL OR u.day <= p_last)
                AND (p_chat IS NULL OR u.chat_id = p_chat OR u.root_id = p_chat
                    OR u.chat_id IN (SELECT f.id FROM family(p_chat) f))
    ), grouped AS (
        SELECT key, sum(steps) AS steps, sum(input_tokens) AS input_tokens,
                sum(output_tokens) AS output_tokens, sum(reasoning_tokens) AS reasoning_tokens,
                sum(cache_read_tokens) AS cache_read_tokens,
                sum(cache_write_tokens) AS cache_write_tokens, sum(cost) AS cost_micros,
                sum(unknown_steps) AS cost_unknown_steps
            FROM chosen GROUP BY key
    ), numbered AS (
        SELECT g.*, row_number() OVER (ORDER BY CASE WHEN p_group_by = 'day' THEN key END,
                cost_micros DESC, key) AS n
            FROM grouped g
    ), shown AS (
        SELECT key, CASE WHEN p_group_by = 'user'
                THEN coalesce((SELECT name FROM users WHERE id::text = key), '') ELSE '' END AS label,
                steps, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens,
                cache_write_tokens, cost_micros, cost_unknown_steps, n
            FROM numbered WHERE n <= p_limit
    )
    SELECT json_build_object(
        'group_by', p_group_by,
        'total', (SELECT json_build_object(
            'steps', coalesce(sum(steps), 0), 'input_tokens', coalesce(sum(input_tokens), 0),
            'output_tokens', coalesce(sum(output_tokens), 0),
            'reasoning_tokens', coalesce(sum(reasoning_tokens), 0),
            'cache_read_tokens', coalesce(sum(cache_read_tokens), 0),
            'cache_write_tokens', coalesce(sum(cache_write_tokens), 0),
            'cost_micros', coalesce(sum(cost_micros), 0),
            'cost_unknown_steps', coalesce(sum(cost_unknown_steps), 0)) FROM grouped),
        'rows', (SELECT coalesce(json_agg(row_to_json(s) ORDER BY s.n), '[]') FROM shown s),
        'has_more', (SELECT count(*) FROM grouped) > p_limit)
$$;
