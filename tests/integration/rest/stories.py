"""How the routes that other services answer are asked so that they succeed, in order."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

CHAT: Final = "/api/v1/chats/{chat_id}"
QUEUED: Final = CHAT + "/queue/{queued_id}"
PROVIDER: Final = "/api/v1/providers/{provider_id}"
MODEL: Final = "/api/v1/models/{provider_id}/{model_id}"
DESKTOP: Final = CHAT + "/desktop"
TEMPLATES: Final = "/api/v1/workspace-templates"
WORKSPACE: Final = "/api/v1/workspaces/{workspace_id}"
CONTENT: Final = WORKSPACE + "/files/content"
MCP: Final = "/api/v1/mcp-servers/{server_id}"
RECORDING: Final = DESKTOP + "/recordings/{recording_id}"


class Step(NamedTuple):
    """One request and what is sent beside the body of the table."""

    method: str
    path: str
    more: dict[str, Any] | None = None
    refused: int | None = None
    """The status of what cannot succeed here; None: any success."""


SEA: Final = {"params": {"path": "sea.txt"}}
TOOLS: Final = (
    Step("put", "/api/v1/plugins/{plugin}/secrets/{key}"),
    Step("get", "/api/v1/tools"),
    Step("get", "/api/v1/plugins"),
    Step("post", "/api/v1/plugins/reload"),
    Step("get", TEMPLATES),
    Step("get", TEMPLATES + "/{template_id}"),
    Step("post", "/api/v1/workspaces"),
    Step("get", "/api/v1/workspaces"),
    Step("put", CONTENT, {**SEA, "content": b"waves"}),
    Step("get", CONTENT, SEA),
    Step("get", WORKSPACE + "/files"),
    Step("get", WORKSPACE + "/diff"),
    Step("put", CHAT + "/workspace"),
    Step("post", WORKSPACE + "/stop"),
    Step("post", WORKSPACE + "/start"),
    Step("get", WORKSPACE),
    Step("delete", WORKSPACE),
    Step("get", CHAT + "/tools"),
    Step("delete", MCP),  # no turn waits for it
)
SIGN_IN: Final = (
    Step("post", MCP + "/login"),
    Step("post", "/api/v1/mcp-servers/finish-login"),
    Step("get", "/api/v1/mcp-servers"),
    Step("get", CHAT + "/tools"),
    Step("delete", MCP + "/login"),
    Step("delete", MCP),
)
CHATLOOP: Final = (
    Step("get", PROVIDER + "/models"),
    Step("get", CHAT + "/prompt"),
)
DESKTOPS: Final = (
    Step("put", DESKTOP),
    Step("get", DESKTOP),
    Step("get", DESKTOP + "/screenshot"),
    Step("post", DESKTOP + "/actions"),
    Step("post", DESKTOP + "/control"),
    Step("put", DESKTOP + "/clipboard"),
    Step("get", DESKTOP + "/clipboard"),
    Step("patch", DESKTOP),
    Step("delete", DESKTOP + "/control"),
    Step("post", DESKTOP + "/ticket"),
    Step("post", DESKTOP + "/recordings"),
    Step("get", DESKTOP + "/recordings"),
    Step("post", RECORDING + "/stop"),
    Step("get", RECORDING),
    Step("get", RECORDING + "/frames/{number}"),
    Step("get", RECORDING + "/download", {"params": {"format": "zip"}}),
    Step("delete", RECORDING),
    Step("put", DESKTOP + "/files/content", {**SEA, "content": b"waves"}),
    Step("get", DESKTOP + "/files"),
    Step("get", DESKTOP + "/files/content", SEA),
    Step("delete", DESKTOP),
    Step("put", DESKTOP + "/server"),
    Step("get", DESKTOP + "/server"),
    Step("delete", DESKTOP + "/server"),
)
SERVED: Final = frozenset((s.method, s.path) for s in (*TOOLS, *SIGN_IN, *CHATLOOP, *DESKTOPS))
"""Asked in these stories."""
