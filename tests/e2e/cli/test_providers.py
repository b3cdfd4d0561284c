from __future__ import annotations

import msgspec
import pytest
from e2e.cli.terminal import run
from fakes import FakeProviders, Script, Text, Turn

from steersman.client import Client

pytestmark = pytest.mark.xdist_group("deployment")


async def test_a_compatible_server_is_added_listed_used_and_removed(
    env: dict[str, str], client: Client
) -> None:
    async with FakeProviders() as fakes:
        fakes.script("sea", Script([Turn([Text("The sea is grey.")])], repeat=True))
        url = fakes.base_url("chat")
        added = await run(
            env | {"THE_KEY": "sk-of-mine"},
            *("provider", "add", "shore", "--base-url", url, "--key-env", "THE_KEY", "--default"),
        )
        assert added.code == 0, added.err
        assert "shore/sea  (default)" in added.out
        assert "sk-of-mine" not in added.out + added.err

        # The default, so it need not be named.
        assert await run(env, "chat", "--print", "Hello") == (0, "The sea is grey.\n", "")
        assert not fakes.refused
        listed = await run(env, "provider", "list")
        row = next(line for line in listed.out.splitlines() if line.startswith("shore"))
        assert row.split()[:3] == ["shore", "openai-chat", "yes"]
        models = await run(env, "model", "list")
        assert "*  shore/sea" in models.out

        assert (await run(env, "model", "default", "tour")).code == 0
        assert (await run(env, "provider", "remove", "shore")).code == 0

    defaults = [model.name for model in await client.list_models() if model.is_default]
    assert defaults == ["demo/tour"]


async def test_a_key_that_the_server_refuses_leaves_nothing_behind(
    env: dict[str, str], client: Client
) -> None:
    async with FakeProviders() as fakes:
        url = fakes.base_url("chat")
        added = await run(
            *(env, "provider", "add", "shut", "--base-url", url, "--key-stdin"),
            source="invalid-key\n",
        )

    assert added.code == 1
    assert "it answers 401" in added.err
    assert "shut" not in {provider.id for provider in await client.list_providers()}


async def test_models_can_be_named_for_a_server_that_does_not_answer_yet(
    env: dict[str, str], client: Client
) -> None:
    added = await run(
        *(env, "provider", "add", "later", "--base-url", "http://127.0.0.1:1/v1"),
        *("--model", "one", "--model", "org/two"),
    )
    models = {str(model.name): model for model in await client.list_models()}
    await client.delete_provider("later")

    assert added.code == 0, added.err
    assert models["later/org/two"].model_id == "org/two"
    assert models["later/one"].tools


async def test_a_model_is_set_up_priced_counted_and_removed(
    env: dict[str, str], client: Client
) -> None:
    async with FakeProviders() as fakes:
        fakes.script("sea", Script([Turn([Text("The sea is grey.")])], repeat=True))
        url = fakes.base_url("chat")
        secret = env | {"THE_HEADER": "secret-of-mine", "THE_KEY": "sk-of-mine"}
        added = await run(
            *(secret, "provider", "add", "dock", "--base-url", url, "--model", "lake"),
            *("--header-env", "X-Team=THE_HEADER", "--key-env", "THE_KEY"),
        )
        assert added.code == 0, added.err
        served = await run(env, "provider", "models", "dock")
        assert "dock/sea" in served.out
        shown = await run(env, "provider", "set", "dock", "--title", "The dock")
        assert '"X-Team"' in shown.out
        assert "secret-of-mine" not in shown.out

        model = await run(
            *(env, "model", "add", "dock/sea", "--set", "context_limit=4096"),
            *("--set", "prices.input=1000000", "--set", "prices.output=2000000"),
        )
        assert model.code == 0, model.err
        wrong = await run(env, "model", "set", "dock/sea", "--set", "temprature=1")
        assert (wrong.code, "settings.temprature" in wrong.err) == (1, True)
        right = await run(env, "model", "set", "dock/sea", "--set", "temperature=0.5")
        assert right.code == 0, right.err
        listed = await run(env, "model", "list")
        row = next(line for line in listed.out.splitlines() if "dock/sea" in line)
        assert row.split()[1:] == ["sea", "yes", "4096", "1.00", "/", "2.00"]

        said = await run(env, "chat", "--model", "dock/sea", "--print", "Hello")
        assert said.out == "The sea is grey.\n"
        request = await fakes.next_request("sea")
        assert not fakes.refused

    usage = await run(env, "usage", "--by", "model", "--json")
    (counted,) = [r for r in msgspec.json.decode(usage.out)["rows"] if r["key"] == "dock/sea"]
    expected = counted["input_tokens"] * 1 + counted["output_tokens"] * 2
    assert (counted["steps"], counted["cost_micros"]) == (1, expected)
    assert request.body
    assert (await run(env, "model", "remove", "dock/sea")).code == 0
    assert "dock/sea" not in {model.name for model in await client.list_models()}
    await client.delete_provider("dock")


async def test_people_are_added_listed_and_disabled(env: dict[str, str]) -> None:
    added = await run(env, "user", "add", "Quinn")
    assert added.code == 0, added.err
    assert "/sign-in/" in added.out
    assert (await run(env, "user", "disable", "Quinn")).code == 0
    listed = await run(env, "user", "list")
    row = next(line for line in listed.out.splitlines() if line.startswith("Quinn"))
    assert (row.split()[1], row.split()[-1]) == ("member", "disabled")
    refused = await run(env, "user", "link", "Quinn")
    assert (refused.code, "disabled" in refused.err) == (1, True)
