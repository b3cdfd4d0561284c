"""The routes of `/api/v1`: for the service itself, and for the document that describes it."""

from __future__ import annotations

from litestar import Router
from litestar.datastructures import State
from litestar.di import Provide

from steersman_gateway import about
from steersman_gateway.auth import provide_actor, requires_user
from steersman_gateway.backend import Backend
from steersman_gateway.chats import ChatController
from steersman_gateway.decisions import DecisionController
from steersman_gateway.desktop import DesktopController
from steersman_gateway.desktop_files import DesktopFileController
from steersman_gateway.desktop_pages import DesktopPageController
from steersman_gateway.events import watch_chat, watch_chats
from steersman_gateway.files import ChatFileController, FileController
from steersman_gateway.ids import provide_chat
from steersman_gateway.imports import ImportController
from steersman_gateway.library import LibraryController
from steersman_gateway.mcp import McpController, chat_tools
from steersman_gateway.messages import MessageController
from steersman_gateway.models import ModelController, ProviderController, refresh_prices
from steersman_gateway.plugins import PluginController
from steersman_gateway.policies import PolicyController
from steersman_gateway.prompts import PromptController
from steersman_gateway.queue import QueueController
from steersman_gateway.recordings import RecordingController
from steersman_gateway.usage import usage
from steersman_gateway.users import UserController
from steersman_gateway.workspaces import (
    ChatWorkspaceController,
    TemplateController,
    WorkspaceController,
)


def provide_backend(state: State) -> Backend:
    """The services behind this one."""
    return state.service.backend


def api_router() -> Router:
    """Everything that needs a user."""
    return Router(
        "/api/v1",
        route_handlers=[
            ImportController,
            ChatController,
            MessageController,
            QueueController,
            LibraryController,
            FileController,
            ChatFileController,
            ModelController,
            ProviderController,
            PolicyController,
            PromptController,
            DecisionController,
            UserController,
            refresh_prices,
            usage,
            PluginController,
            McpController,
            chat_tools,
            about.me,
            about.tools,
            DesktopController,
            TemplateController,
            WorkspaceController,
            ChatWorkspaceController,
            RecordingController,
            DesktopPageController,
            DesktopFileController,
            watch_chat,
            watch_chats,
        ],
        guards=[requires_user],
        dependencies={
            "actor": Provide(provide_actor, sync_to_thread=False),
            "chat": Provide(provide_chat, sync_to_thread=False),
        },
    )
