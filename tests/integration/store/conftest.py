"""Chats in a database alone, beside stores that may be shared: see `support.stacks`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from support.chat_sql import ChatSql, open_chats
from support.stacks import client, database_url, nats, one_stack, share_loops, shared, store

__all__ = ["client", "database_url", "nats", "one_stack", "shared", "store"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    share_loops(items, HERE)


@pytest_asyncio.fixture(loop_scope="module")
async def sql(database_url: str) -> AsyncGenerator[ChatSql]:
    """Somebody who calls the functions themselves; no store runs."""
    opened = await open_chats(database_url)
    yield opened
    await opened.connection.close()
