from __future__ import annotations

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
