import os
from collections.abc import AsyncGenerator

import pytest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError
from openai.types.chat import ChatCompletionUserMessageParam

from steersman.command import Command
from steersman.embedded import model
from steersman.embedded.server import EmbeddedServer
from steersman.ports import free_port

pytestmark = [
    pytest.mark.skipif(not model.is_installed(), reason="the wheels of the model are missing"),
]

KEY = "a-key"


class ModelServer(EmbeddedServer):
    """The model as a process of the test."""

    name = "model"
    port = 0

    def plan(self) -> Command:
        self.port = free_port()
        return model.command(self.port, KEY, {"PATH": os.environ["PATH"]})

    def is_ready(self) -> bool:
        return "model.ready" in self.log

    def client(self, key: str = KEY) -> AsyncOpenAI:
        url = f"http://127.0.0.1:{self.port}/v1"
        return AsyncOpenAI(base_url=url, api_key=key, max_retries=0)


def ask(text: str) -> ChatCompletionUserMessageParam:
    return {"role": "user", "content": text}


@pytest.fixture
async def server() -> AsyncGenerator[ModelServer]:
    async with ModelServer() as running:
        yield running


async def test_it_streams_to_who_has_the_key_and_keeps_quiet(server: ModelServer) -> None:
    question = ask("Write two lines about the sea")
    async with server.client() as client:
        deltas = [
            chunk.choices[0].delta.content
            async for chunk in await client.chat.completions.create(
                model=model.ALIAS, messages=[question], stream=True, max_tokens=16
            )
            if chunk.choices and chunk.choices[0].delta.content
        ]
        assert len(deltas) > 4
        assert [m.id async for m in client.models.list()] == [model.ALIAS]
        with pytest.raises(BadRequestError, match="context size"):
            await client.chat.completions.create(model=model.ALIAS, messages=[ask("sea " * 5000)])
    async with server.client("another-key") as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.chat.completions.create(model=model.ALIAS, messages=[question])

    assert len(server.log.splitlines()) <= 3
    assert KEY not in " ".join(server.plan().argv)
