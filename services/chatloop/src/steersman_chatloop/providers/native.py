"""What goes back to a provider as it came, and to whom.

A native block is bound to its wire format and account. Reasoning is bound to the model family too:
other models cannot read its signatures and encrypted content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, cast
from uuid import uuid4

from steersman_chatloop.providers.base import StepRequest
from steersman_contracts.chats import Message
from steersman_contracts.parts import (
    ContextFilePart,
    FileReferencePart,
    JsonObject,
    JsonPart,
    Part,
    ProviderMetadata,
    SkillPart,
    ToolCallPart,
)
from steersman_contracts.rpc.worker import ModelAccess

_SNAPSHOT: Final = re.compile(r"(?:[-@]20\d{2}-?\d{2}-?\d{2}|-latest)$")
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")


def family(model_id: str) -> str:
    """The model without its snapshot date: snapshots of one model read each other's reasoning."""
    return _SNAPSHOT.sub("", model_id)


class Origin:
    """The target of a request or the source of a stream: tells own blocks from foreign ones."""

    __slots__ = ("_family", "account", "format", "model", "name")

    def __init__(self, wire_format: str, access: ModelAccess) -> None:
        self.format = wire_format
        self.account = access.account
        self.model = access.model_id
        self.name = access.name
        self._family = family(access.model_id)

    def wrote(self, metadata: ProviderMetadata | None) -> bool:
        """Say whether the block came from this wire format and account."""
        return (
            metadata is not None
            and metadata.origin == self.format
            and metadata.account == self.account
        )

    def reads(self, metadata: ProviderMetadata | None) -> bool:
        """Say whether this model can also read what is signed or encrypted in the block."""
        return (
            metadata is not None and self.wrote(metadata) and family(metadata.model) == self._family
        )

    def native(self, metadata: ProviderMetadata | None) -> JsonObject | None:
        """The block as it came, if this model can read it."""
        return block(metadata) if self.reads(metadata) else None

    def spoke(self, message: Message) -> bool:
        """Say whether the message came from this very model, so that its ids are its own.

        Not only from this provider: behind one gateway stand models that refuse each other's ids.
        """
        return message.model == self.name

    def keep(self, native: Any, *, response_id: str = "", prefix: str = "") -> ProviderMetadata:
        """Wrap a block for storage."""
        return ProviderMetadata(self.format, self.account, self.model, native, response_id, prefix)

    def answered(self, message: Message) -> ProviderMetadata | None:
        """What tells the stored response that the whole message is, if this very model made it."""
        for part in reversed(message.parts):
            metadata = metadata_of(part)
            if metadata is not None and metadata.response_id:
                same = self.wrote(metadata) and metadata.model == self.model
                return metadata if same else None
        return None


def metadata_of(part: Part) -> ProviderMetadata | None:
    """What a provider left on the part; some kinds of parts never come from one."""
    if isinstance(part, FileReferencePart | ContextFilePart | SkillPart | JsonPart):
        return None
    return part.provider_metadata


def block(metadata: ProviderMetadata | None) -> JsonObject | None:
    """The stored block, if it is a JSON object."""
    native = metadata.native if metadata is not None else None
    return cast("JsonObject", native) if isinstance(native, dict) else None


class WireIds:
    """Ids of tool calls as a foreign provider takes them.

    The same history always gives the same ids, and a result gets the id of its call: the last one
    before it, because weak servers count their calls anew in every step.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._used: set[str] = set()
        self._current: dict[str, str] = {}

    def call(self, call_id: str) -> str:
        """The id for a call; never the same for two calls of a request."""
        wire = base = _wire_id(call_id, self._limit)
        count = 1
        while wire in self._used:
            count += 1
            suffix = f"_{count}"
            wire = base[: self._limit - len(suffix)] + suffix
        self._used.add(wire)
        self._current[call_id] = wire
        return wire

    def keep(self, call_id: str) -> str:
        """The id for a call of the target's own, which goes back as it came."""
        self._used.add(call_id)
        self._current[call_id] = call_id
        return call_id

    def result(self, call_id: str) -> str:
        """The id of the call that the result answers."""
        return self._current.get(call_id) or _wire_id(call_id, self._limit)


def _wire_id(call_id: str, limit: int) -> str:
    if len(call_id) <= limit and _PLAIN_ID.fullmatch(call_id):
        return call_id
    digest = hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{_ODD.sub('_', call_id)[: limit - 17]}_{digest}"


class CallIds:
    """Ids for the calls of a new step: the provider's own while they are unique in the chat."""

    def __init__(self, taken: Iterable[str] = (), *, make: Callable[[], str] | None = None) -> None:
        self._before = taken
        self._taken: set[str] | None = None  # gathered at the first call: most answers have none
        self._make = make or _random_id

    @classmethod
    def of(cls, request: StepRequest) -> CallIds:
        """Every id in the history of the request is taken."""
        return cls(
            part.call_id
            for message in request.messages
            for part in message.parts
            if isinstance(part, ToolCallPart)
        )

    def take(self, wanted: str | None) -> str:
        """Return `wanted`, or a new id if there is none or the chat has it already."""
        if self._taken is None:
            self._taken = set(self._before)
        call_id = wanted if wanted and len(wanted) <= 200 else self._make()
        if call_id in self._taken:
            call_id = self._make()
        self._taken.add(call_id)
        return call_id


def _random_id() -> str:
    return f"call_{uuid4().hex[:24]}"
