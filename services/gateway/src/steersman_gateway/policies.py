"""Rules about tool calls and the audit over REST."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, QueryParameter

from steersman_contracts.errors import SteersmanError
from steersman_contracts.policies import Rule
from steersman_contracts.rest import AuditList, DryRunBody, GrantList, PolicyBody
from steersman_contracts.rpc import policies as rpc
from steersman_contracts.rpc.tools import LIST_TOOLS, ListTools
from steersman_gateway.auth import CurrentActor, requires_admin
from steersman_gateway.backend import Services
from steersman_gateway.ids import ChatInPath, known_chat_id

Before = Annotated[
    int | None, QueryParameter(description="Only entries before this id.", ge=1, le=2**62)
]
Tool = Annotated[str, QueryParameter(description="Its name.", min_length=1, max_length=200)]
OfChat = Annotated[
    str | None,
    QueryParameter(description="The chat that it was allowed for; without one: for all chats."),
]
Limit = Annotated[int, QueryParameter(description="How many entries.", ge=1, le=200)]


def _rules(data: PolicyBody | DryRunBody) -> tuple[Rule, ...]:
    return tuple(
        Rule(rule.decision, rule.tool, rule.arguments, rule.when, rule.reason)
        for rule in data.rules
    )


class PolicyController(Controller):
    """Which tool calls run, which a person is asked about, and which are refused."""

    tags = ("Policies",)

    @get("/policies/system", operation_id="getSystemPolicy", summary="Rules of the deployment")
    async def system(self, actor: CurrentActor, backend: Services) -> rpc.Policy:
        """Everybody may read them."""
        return await backend.call(rpc.GET, rpc.GetPolicy(actor, "system"))

    @put(
        "/policies/system",
        operation_id="putSystemPolicy",
        summary="Replace the rules of the deployment",
        guards=[requires_admin],
    )
    async def put_system(
        self, data: JSONBody[PolicyBody], actor: CurrentActor, backend: Services
    ) -> rpc.Policy:
        """The first rule that fits decides for its level, and the strictest level decides."""
        request = rpc.PutPolicy(actor, "system", _rules(data), version=data.version)
        return await backend.call(rpc.PUT, request)

    @get("/policies/user", operation_id="getUserPolicy", summary="Your own rules")
    async def user(self, actor: CurrentActor, backend: Services) -> rpc.Policy:
        """They apply to all of your chats."""
        return await backend.call(rpc.GET, rpc.GetPolicy(actor, "user"))

    @put("/policies/user", operation_id="putUserPolicy", summary="Replace your own rules")
    async def put_user(
        self, data: JSONBody[PolicyBody], actor: CurrentActor, backend: Services
    ) -> rpc.Policy:
        """They can be stricter than those of the deployment, never weaker."""
        request = rpc.PutPolicy(actor, "user", _rules(data), version=data.version)
        return await backend.call(rpc.PUT, request)

    @get("/chats/{chat_id:str}/policy", operation_id="getChatPolicy", summary="Rules of a chat")
    async def chat(self, chat: ChatInPath, actor: CurrentActor, backend: Services) -> rpc.Policy:
        """They apply to this chat alone."""
        return await backend.call(rpc.GET, rpc.GetPolicy(actor, "chat", chat))

    @put(
        "/chats/{chat_id:str}/policy",
        operation_id="putChatPolicy",
        summary="Replace the rules of a chat",
    )
    async def put_chat(
        self,
        chat: ChatInPath,
        data: JSONBody[PolicyBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Policy:
        """They apply from the chat's next step on."""
        request = rpc.PutPolicy(actor, "chat", _rules(data), chat, data.version)
        return await backend.call(rpc.PUT, request)

    @post(
        "/chats/{chat_id:str}/policy/dry-run",
        operation_id="dryRunPolicy",
        summary="Try out rules",
        status_code=200,
    )
    async def dry_run(
        self,
        chat: ChatInPath,
        data: JSONBody[DryRunBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.DryRunReport:
        """What a draft would have done to the newest 200 calls of the chat. Changes nothing."""
        try:
            catalog = await backend.call(LIST_TOOLS, ListTools())
        except SteersmanError:
            request = rpc.DryRun(actor, chat, data.level, _rules(data))
            report = await backend.call(rpc.DRY_RUN, request)
            return msgspec.structs.replace(report, without_tools=True)
        needing = tuple(tool.name for tool in catalog.tools if tool.needs_approval)
        request = rpc.DryRun(actor, chat, data.level, _rules(data), needing)
        return await backend.call(rpc.DRY_RUN, request)

    @get("/grants", operation_id="listGrants", summary="What you have allowed for good")
    async def grants(self, actor: CurrentActor, backend: Services) -> GrantList:
        """Tools that you allowed for a chat or always, newest first, at most 1,000."""
        page = await backend.call(rpc.LIST_GRANTS, rpc.ListGrants(actor))
        return GrantList(page.grants, page.has_more)

    @delete("/grants", operation_id="revokeGrant", summary="Take back what you have allowed")
    async def revoke(
        self, actor: CurrentActor, backend: Services, tool: Tool, chat_id: OfChat = None
    ) -> None:
        """The tool is asked about again, from the next step of each chat on."""
        chat = None if chat_id is None else known_chat_id(chat_id)
        await backend.call(rpc.REVOKE_GRANT, rpc.RevokeGrant(actor, tool, chat))

    @get("/audit", operation_id="listAudit", summary="Who decided what")
    async def audit(
        self,
        actor: CurrentActor,
        backend: Services,
        before: Before = None,
        limit: Limit = 50,
    ) -> AuditList:
        """Decisions and changes of rules, newest first: all of them for admins, else your own."""
        page = await backend.call(rpc.LIST_AUDIT, rpc.ListAudit(actor, None, before, limit))
        return AuditList(page.entries, page.has_more)
