from __future__ import annotations

import asyncio

import msgspec
from click.testing import CliRunner
from e2e.cli.conftest import until
from e2e.cli.terminal import run
from fakes import FakeProviders, Script, Text, Turn

from steersman.client import Client
from steersman.main import main
from steersman_contracts.rest import CreateChatBody


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
    secrets = {"THE_HEADER": "secret-of-mine", "THE_KEY": "sk-of-mine"}
    async with FakeProviders() as fakes:
        fakes.script("sea", Script([Turn([Text("The sea is grey.")])], repeat=True))
        url = fakes.base_url("chat")
        await command(
            *(env | secrets, "provider", "add", "dock", "--base-url", url, "--model", "lake"),
            *("--header-env", "X-Team=THE_HEADER", "--key-env", "THE_KEY"),
        )
        assert "dock/sea" in await command(env, "provider", "models", "dock")
        shown = await command(env, "provider", "set", "dock", "--title", "The dock")
        assert '"X-Team"' in shown
        assert "secret-of-mine" not in shown

        await command(
            *(env, "model", "add", "dock/sea", "--set", "context_limit=262144"),
            *("--set", "prices.input=1000000", "--set", "prices.output=2000000"),
        )
        wrong = await command(env, "model", "set", "dock/sea", "--set", "temprature=1", code=1)
        assert "settings.temprature" in wrong
        await command(env, "model", "set", "dock/sea", "--set", "temperature=0.5")
        assert '"temperature": 0.5' in await command(env, "model", "show", "dock/sea")
        listed = await command(env, "model", "list")
        row = next(line for line in listed.splitlines() if "dock/sea" in line)
        assert row.split()[1:] == ["sea", "yes", "262144", "1.00", "/", "2.00"]

        chat = (await client.create_chat(CreateChatBody(model="dock/sea", text="Hello"))).chat
        await until(client, chat.id, lambda view: view.resting)
        assert not fakes.refused

    usage = await command(env, "usage", "--by", "model", "--json")
    (counted,) = [row for row in msgspec.json.decode(usage)["rows"] if row["key"] == "dock/sea"]
    expected = counted["input_tokens"] * 1 + counted["output_tokens"] * 2
    assert (counted["steps"], counted["cost_micros"]) == (1, expected)
    assert (await client.get_chat(chat.id)).cost_micros == expected > 0
    assert "dock/sea" in await command(env, "usage", "--by", "model")
    await command(env, "model", "remove", "dock/sea")
    assert "dock/sea" not in {model.name for model in await client.list_models()}
    await client.delete_provider("dock")


async def test_people_are_added_listed_and_disabled(env: dict[str, str]) -> None:
    assert "/sign-in/" in await command(env, "user", "add", "Quinn")
    assert "Quinn" in await command(env, "user", "add", "Quinn", code=1)
    await command(env, "user", "disable", "Quinn")
    listed = await command(env, "user", "list")
    row = next(line for line in listed.splitlines() if line.startswith("Quinn"))
    assert (row.split()[1], row.split()[-1]) == ("member", "disabled")
    assert "disabled" in await command(env, "user", "link", "Quinn", code=1)
    await command(env, "user", "enable", "Quinn")
    assert "/sign-in/" in await command(env, "user", "link", "Quinn")


async def command(env: dict[str, str], *words: str, code: int = 0) -> str:
    """Run the command in this process, which is ten times as fast; what it says."""
    result = await asyncio.to_thread(CliRunner(env=env).invoke, main, words)
    assert result.exit_code == code, result.output
    return result.output
