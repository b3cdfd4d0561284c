"""What an administrator sets for a model, on its way into a request: effort, options, tools."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final, TypeVar

import msgspec
import structlog

from steersman_chatloop.providers.base import StepRequest
from steersman_contracts.model_options import (
    EFFORTS,
    Effort,
    ModelSettings,
    Options,
    UserLocation,
    read_options,
)
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.worker import ModelAccess

log = structlog.stdlib.get_logger()

O = TypeVar("O", bound=Options)  # noqa: E741  # of options

_MAX_SAID: Final = 1000
_said: dict[tuple[str, str], None] = {}

# Models of OpenAI by the efforts that they know, first match wins; newer ones know the whole scale.
_OPENAI: Final[tuple[tuple[re.Pattern[str], tuple[Effort, ...]], ...]] = (
    (re.compile(r"gpt-[34]|chatgpt|gpt-5(?:\.\d)?-chat"), ()),
    (re.compile(r"o\d|gpt-oss|codex-mini"), ("low", "medium", "high")),
    (re.compile(r"gpt-5-pro"), ("high",)),
    (re.compile(r"gpt-5\.1-codex-max"), ("none", "medium", "high", "xhigh")),
    (re.compile(r"gpt-5\.1"), ("none", "low", "medium", "high")),
    (re.compile(r"gpt-5(?!\.)"), ("minimal", "low", "medium", "high")),
    (re.compile(r"gpt-5\.[2-5]-pro"), ("medium", "high", "xhigh")),
    (re.compile(r"gpt-5\.[2-5]"), ("none", "low", "medium", "high", "xhigh")),
)


def options(access: ModelAccess, kind: type[O]) -> O:
    """The options of the model's wire format; those of another one do not apply."""
    found = read_options(access.provider_type, access.settings.options)
    return found if isinstance(found, kind) else kind()


def bare(access: ModelAccess) -> ModelSettings:
    """No settings but the one without which the model may not be reached: how it is called."""
    name = "use_responses_api"
    found = access.settings.options
    return ModelSettings(options={name: found[name]} if name in found else {})


def effort(request: StepRequest) -> Effort | None:
    """What the chat asks for, or else what the model has, but never more than it may."""
    settings = request.model.settings
    wanted, most = request.effort or settings.reasoning_effort, settings.max_reasoning_effort
    if wanted is None or most is None:
        return wanted
    return wanted if EFFORTS.index(wanted) <= EFFORTS.index(most) else most


def nearest(wanted: Effort, known: Sequence[Effort]) -> Effort | None:
    """The known effort that is nearest to `wanted` on the scale, the weaker of two.

    None is not near to anything but itself: "none" turns reasoning off, and nothing else does.
    """
    if wanted in known or not known:
        return wanted if known else None
    at = EFFORTS.index(wanted)
    near: list[Effort] = [one for one in EFFORTS if one in known and one != "none"]
    near.sort(key=lambda one: abs(EFFORTS.index(one) - at))  # stable: the weaker one comes first
    return near[0] if near else known[0]


def openai_effort(wanted: Effort | None, model_id: str) -> Effort | None:
    """As OpenAI's model takes it; None for models that do not reason."""
    if wanted is None:
        return None
    name = model_id.rpartition("/")[2]
    known = next((efforts for pattern, efforts in _OPENAI if pattern.match(name)), EFFORTS)
    return nearest(wanted, known)


def sampling(settings: ModelSettings, names: Iterable[str]) -> JsonObject:
    """The settings of these names that are set."""
    found = ((name, getattr(settings, name)) for name in names)
    return {name: value for name, value in found if value is not None}


def near(location: UserLocation) -> JsonObject:
    """Where searches are made for. OpenAI takes nothing but the kind for an unknown place."""
    return {"type": "approximate"} | msgspec.to_builtins(location)


def offered(tools: Sequence[ToolSpec], hidden: Collection[str] = ()) -> list[ToolSpec]:
    """The tools in an order that never changes, because a prompt cache begins with them.

    `hidden` are the names under which the provider itself offers tools.
    """
    found = (tool for tool in tools if tool.name not in hidden)
    return sorted(found, key=lambda tool: tool.name)


def is_strict(schema: object) -> bool:
    """Say whether a schema is one that OpenAI holds a model to: all required, nothing beside."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in msgspec.convert(schema, list[object]))
    if not isinstance(schema, dict):
        return True
    found = msgspec.convert(schema, dict[str, object])
    if found.keys() & _NOT_STRICT:
        return False
    if found.get("type") == "object" or "properties" in found:
        properties = msgspec.convert(found.get("properties", {}), dict[str, object])
        required = msgspec.convert(found.get("required", []), list[str])
        if found.get("additionalProperties") is not False or set(required) != set(properties):
            return False
        return all(is_strict(item) for item in properties.values())
    return all(is_strict(item) for item in found.values())


_NOT_STRICT: Final = frozenset(
    {"default", "oneOf", "allOf", "not", "if", "patternProperties", "propertyNames", "$defs"}
)


def unsent(access: ModelAccess, names: Iterable[str]) -> None:
    """Say in the log, once for each model, which settings its API does not take."""
    for name in names:
        key = (access.name, name)
        if key not in _said:
            if len(_said) >= _MAX_SAID:
                _said.clear()
            _said[key] = None
            log.warning("setting.not_sent", model=access.name, setting=name)
