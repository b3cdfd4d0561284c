"""Chats in a database alone, beside the fixtures with running stores."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from support.chat_sql import ChatSql, open_chats


@pytest.fixture
async def sql(database_url: str) -> AsyncGenerator[ChatSql]:
    """Somebody who calls the functions themselves; no store runs."""
    opened = await open_chats(database_url)
    yield opened
    await opened.connection.close()
