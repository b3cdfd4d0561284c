"""Which models the clouds of Amazon and Google say they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlencode

import msgspec

from steersman_chatloop.providers.addresses import vertex_root
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.providers import ServedModel
from steersman_contracts.rpc.worker import ModelAccess

PAGE: Final = 1000


class Question(NamedTuple):
    """One list to ask for."""

    address: str
    query: Mapping[str, str]
    entries: str
    """Where the list is in the answer."""
    more: str
    """The field of the answer, and the query, that lead to the next page."""


def questions(access: ModelAccess) -> tuple[Question, ...]:
    """The lists that together hold all models that can be called."""
    if access.provider_type == "anthropic-bedrock":
        from steersman_chatloop.providers.aws import base

        root = base(access, "bedrock")
        profiles = {"type": "SYSTEM_DEFINED", "maxResults": str(PAGE)}
        return (
            Question(
                f"{root}/foundation-models", {"byProvider": "anthropic"}, "modelSummaries", ""
            ),
            Question(
                f"{root}/inference-profiles", profiles, "inferenceProfileSummaries", "nextToken"
            ),
        )
    publisher = "anthropic" if access.provider_type == "anthropic-vertex" else "google"
    root = vertex_root(access)
    root = f"{root.removesuffix('/v1').removesuffix('/v1beta1')}/v1beta1"
    return (
        Question(
            f"{root}/publishers/{publisher}/models",
            {"pageSize": str(PAGE)},
            "publisherModels",
            "pageToken",
        ),
    )


class Proofs:
    """Proves who is asking; what that needs is imported when it is first used."""

    def __init__(self) -> None:
        self._tokens: Any = None

    async def headers(
        self, access: ModelAccess, address: str, query: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """The address with its query as it was signed, and all headers."""
        url = f"{address}?{urlencode(query)}"
        if access.provider_type == "anthropic-bedrock":
            from steersman_chatloop.providers.aws import proof

            return url, await proof(access, "GET", url, {}) | access.headers
        if self._tokens is None:
            from steersman_chatloop.providers.google_login import Tokens

            self._tokens = Tokens()
        proven: dict[str, str] = await self._tokens.proof(access)
        return url, proven | access.headers


def read(question: Question, content: bytes) -> tuple[list[ServedModel], str | None]:
    """Read one page.

    Returns:
        The models that answer with streams of text, and what leads to the next page.

    Raises:
        ValueError: It is no such list.
    """
    body = msgspec.json.decode(content, type=JsonObject)
    entries: object = body.get(question.entries, [])
    if not isinstance(entries, list):
        raise ValueError(question.entries)  # noqa: TRY004  # all that is wrong with a list is one
    found = [
        _model(cast("JsonObject", entry))
        for entry in cast("list[object]", entries)
        if isinstance(entry, dict)
    ]
    token = body.get("nextToken" if question.more == "nextToken" else "nextPageToken")
    more = token if question.more and isinstance(token, str) and token else None
    return [model for model in found if model is not None], more


def _model(entry: JsonObject) -> ServedModel | None:
    name: object
    if "inferenceProfileId" in entry:
        name, title = entry["inferenceProfileId"], entry.get("inferenceProfileName")
        if entry.get("status", "ACTIVE") != "ACTIVE" or "anthropic." not in str(name):
            return None
    elif "modelId" in entry:
        name, title = entry["modelId"], entry.get("modelName")
        kinds = entry.get("inferenceTypesSupported") or ()
        # The others are called by a profile, which the other list has.
        if not entry.get("responseStreamingSupported") or "ON_DEMAND" not in kinds:
            return None
    else:
        name, title = str(entry.get("name", "")).rpartition("/")[2], entry.get("displayName")
        if not str(name).startswith(("claude", "gemini")):
            return None
    if not isinstance(name, str) or not name or len(name) > 200:
        return None
    return ServedModel(name, title[:100] if isinstance(title, str) else "")
