"""All wire formats behind one door. An SDK is imported when its format is known to be used.

The SDKs cost seconds and tens of megabytes each; a deployment seldom uses all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import structlog

from steersman_chatloop.providers import tuning
from steersman_chatloop.providers.base import Provider, StepEvent, StepRequest
from steersman_chatloop.providers.classify import classify, failure
from steersman_chatloop.providers.demo import Demo
from steersman_chatloop.providers.images import fitted
from steersman_chatloop.providers.streaming import Limits
from steersman_contracts.chats import ErrorKind
from steersman_contracts.model_options import OpenAIOptions
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.worker import ModelAccess
from steersman_runtime import heap

log = structlog.stdlib.get_logger()


def _demo(_: Limits) -> Provider:
    return Demo()


def _openai_chat(limits: Limits) -> Provider:
    from steersman_chatloop.providers.openai_chat import OpenAIChat

    return OpenAIChat(limits)


def _openai_responses(limits: Limits) -> Provider:
    from steersman_chatloop.providers.openai_responses import OpenAIResponses

    return OpenAIResponses(limits)


def _anthropic(limits: Limits) -> Provider:
    from steersman_chatloop.providers.anthropic import Anthropic

    return Anthropic(limits)


def _google(limits: Limits) -> Provider:
    from steersman_chatloop.providers.google import Google

    return Google(limits)


def _bedrock(limits: Limits) -> Provider:
    from steersman_chatloop.providers.anthropic_clouds import Bedrock

    return Bedrock(limits)


def _anthropic_vertex(limits: Limits) -> Provider:
    from steersman_chatloop.providers.anthropic_clouds import Vertex

    return Vertex(limits)


def _google_vertex(limits: Limits) -> Provider:
    from steersman_chatloop.providers.google import Google
    from steersman_chatloop.providers.google_login import Tokens

    return Google(limits, Tokens())


FACTORIES: Final[dict[ProviderType, Callable[[Limits], Provider]]] = {
    "demo": _demo,
    "openai-chat": _openai_chat,
    "openai-responses": _openai_responses,
    "anthropic": _anthropic,
    "google": _google,
    "anthropic-bedrock": _bedrock,
    "anthropic-vertex": _anthropic_vertex,
    "google-vertex": _google_vertex,
}

_KINDS: Final[dict[str, ProviderType]] = {kind: kind for kind in FACTORIES}


def _made(kind: ProviderType, limits: Limits) -> Provider:
    with heap.importing():
        return FACTORIES[kind](limits)


_DISABLED: Final[dict[str, ErrorKind]] = {
    "provider_disabled": "provider_disabled",
    "missing_key": "missing_key",
    "config": "config",
}


def wire_format(access: ModelAccess) -> ProviderType:
    """How the model is called: OpenAI has two formats, and its models may choose the older one."""
    if access.provider_type != "openai-responses":
        return access.provider_type
    options = tuning.options(access, OpenAIOptions)
    return "openai-responses" if options.use_responses_api else "openai-chat"


class Providers:
    """Calls any model. One for the process; its clients are shared by all chats.

    Args:
        first_event_s: How long a model may take before its first event.
        idle_s: How long it may be silent after that.
    """

    def __init__(self, *, first_event_s: float = 60.0, idle_s: float = 600.0) -> None:
        self._limits = Limits(first_event_s=first_event_s, idle_s=idle_s)
        self._providers: dict[ProviderType, Provider] = {}
        self._loading: dict[ProviderType, asyncio.Task[Provider]] = {}

    async def stream(self, request: StepRequest) -> AsyncGenerator[StepEvent]:
        """See `Provider.stream`.

        Raises:
            ProviderFailed: For every failure; at once when the model cannot be called at all.
        """
        access = request.model
        if access.disabled is not None:
            raise failure(_DISABLED[access.disabled], access)
        kind = wire_format(access)
        provider = self._providers.get(kind)
        if provider is None:
            try:
                provider = await self._load(kind)
            except ImportError as error:
                raise classify(error, access) from error
        request = await fitted(request)
        async with aclosing(provider.stream(request)) as events:
            async for event in events:
                yield event

    @property
    def warmed(self) -> frozenset[ProviderType]:
        """The wire formats that can be used without an import."""
        return frozenset(self._providers)

    async def warm(self, provider_type: str) -> None:
        """Import what calls to providers of a type need, if that is not done.

        The first call would else wait for it, for seconds.
        """
        kind = _KINDS.get(provider_type)
        if kind is None or kind in self._providers:
            return
        try:
            await self._load(kind)
        except Exception as error:  # whoever calls it hears of it; here it only saves time
            log.warning("provider.not_imported", provider_type=kind, exc_info=error)

    async def _load(self, kind: ProviderType) -> Provider:
        """Import in a thread: the other chats of this process go on meanwhile."""
        task = self._loading.get(kind)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(_made, kind, self._limits))
            self._loading[kind] = task
        try:
            # Shielded: a chat that is interrupted must not stop the import for the others.
            provider = await asyncio.shield(task)
        finally:
            if task.done():
                self._loading.pop(kind, None)
        return self._providers.setdefault(kind, provider)

    async def aclose(self) -> None:
        """Close the clients of every wire format."""
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        providers, self._providers = self._providers, {}
        for provider in providers.values():
            await provider.aclose()
