"""The desk of one chat: what its tools may do about its workspace."""

from __future__ import annotations

from collections.abc import Mapping

from steersman_contracts.ids import ChatId
from steersman_contracts.workspaces import Made, Template, TemplatePage, Value, Workspace
from steersman_tools.desks import Desks
from steersman_tools.drivers import Progress


class ChatDesk:
    """The `Desk` that the tools of one chat are given."""

    def __init__(self, desks: Desks, chat_id: ChatId) -> None:
        self._desks = desks
        self._chat_id = chat_id

    async def templates(self, query: str, page: int) -> TemplatePage:
        return await self._desks.templates(query, page)

    async def template(self, template_id: str) -> Template:
        return await self._desks.template(template_id)

    async def create(
        self,
        template_id: str,
        name: str,
        parameters: Mapping[str, Value],
        progress: Progress,
    ) -> Made:
        return await self._desks.create(
            template_id, name, parameters, progress, chat_id=self._chat_id
        )

    async def start(self) -> Workspace:
        return await self._desks.start((await self._desks.of_chat(self._chat_id)).id)

    async def stop(self) -> Workspace:
        return await self._desks.stop((await self._desks.of_chat(self._chat_id)).id)
