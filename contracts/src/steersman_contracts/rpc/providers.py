"""What chatloops ask of a provider beside model calls."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from steersman_contracts.ids import Slug
from steersman_contracts.rpc import Actor, Method

ListingState: TypeAlias = Literal["available", "missing_api_key", "fetch_failed"]


class ListServedModels(msgspec.Struct, frozen=True):
    """Ask a provider which models it has. Admins only."""

    actor: Actor
    provider_id: Slug


class ServedModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model as its provider describes it."""

    model_id: str
    display_name: str = ""
    context_limit: int | None = None
    """None where the provider does not say."""
    max_output_tokens: int | None = None


class ServedModels(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the provider answered, ordered by id."""

    availability: ListingState
    reason: str = ""
    """Why there is no list, for people; empty when there is one."""
    models: tuple[ServedModel, ...] = ()


LIST_SERVED_MODELS: Final = Method(
    "chatloop", "providers.list_models", ListServedModels, ServedModels, deadline_s=15.0, safe=True
)
