"""What this deployment is and has: version, tools, and who is asking."""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.datastructures import State

from steersman_contracts.rest import Me, Version
from steersman_contracts.rpc.identity import Identity
from steersman_contracts.rpc.tools import LIST_TOOLS, Catalog, ListTools
from steersman_gateway.backend import Services


@get(
    "/api/v1/version",
    operation_id="getVersion",
    summary="What runs here",
    tags=["About"],
    sync_to_thread=False,
)
def version(state: State) -> Version:
    """The version of this deployment. Needs no token."""
    return Version(state.runtime.version)


@get("/me", operation_id="getMe", summary="Who you are", tags=["About"], sync_to_thread=False)
def me(request: Request[Identity, Any, State]) -> Me:
    """The owner of the token."""
    user = request.user.user
    return Me(user.id, user.name, user.role)


@get("/tools", operation_id="listTools", summary="List tools", tags=["Tools"])
async def tools(backend: Services) -> Catalog:
    """The tools that models may call, and every plugin that was found."""
    return await backend.call(LIST_TOOLS, ListTools())
