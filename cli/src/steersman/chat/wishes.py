"""What was asked for on the command line, and the model that a short name means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from steersman.client import Client, ClientError
from steersman_contracts.model_options import Effort
from steersman_contracts.parts import JsonObject
from steersman_contracts.rest import CreateChatBody, EditMessageBody, SendMessageBody
from steersman_contracts.rpc.models import Model


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How to chat."""

    model: str | None = None
    system: str = ""
    title: str = ""
    effort: Effort | None = None
    plan_mode: bool = False
    response_schema: JsonObject | None = None

    def new_chat(self, text: str | None) -> CreateChatBody:
        """The body that starts a chat; repeating it does not start another one."""
        return CreateChatBody(
            model=self.model,
            title=self.title,
            system_prompt=self.system,
            text=None if text is None else sendable(text),
            client_key=uuid4().hex,
            effort=self.effort,
            plan_mode=self.plan_mode,
            response_schema=self.response_schema,
        )

    def message(self, text: str) -> SendMessageBody:
        """The body that sends a message; repeating it does not send another one."""
        return SendMessageBody(
            text=sendable(text), model=self.model, client_key=uuid4().hex, effort=self.effort
        )

    def edit(self, text: str) -> EditMessageBody:
        """The body that says something else in place of a message."""
        return EditMessageBody(text=text, model=self.model, effort=self.effort)

    def taken(self) -> Wishes:
        """What is left to wish for: the chat has model and effort from its message on."""
        return replace(self, model=None, effort=None)


def sendable(text: str) -> str:
    """What was typed in another encoding than the terminal's has no place in JSON."""
    return text.encode(errors="replace").decode()


class NoSuchModel(ClientError):
    """The name means no model, or several."""


async def find_model(client: Client, name: str) -> str:
    """The full name of a model: `echo` for `demo/echo` where only one is called so.

    Raises:
        NoSuchModel: None, or more than one.
    """
    return match_model(await client.list_models(), name)


def match_model(models: Sequence[Model], name: str) -> str:
    """See `find_model`."""
    names = [model.name for model in models]
    if name in names:
        return name
    found = [model.name for model in models if model.model_id == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise NoSuchModel(f"{name!r} may be {' or '.join(found)}")
    near = difflib.get_close_matches(name, [*names, *(m.model_id for m in models)], n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else "see `steersman model list`"
    raise NoSuchModel(f"there is no model {name!r}: {hint}")
