"""Providers and models: where answers come from."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from steersman_contracts.ids import ModelName, ProviderId, Slug
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc import Actor, Method, Nothing

ProviderType: TypeAlias = Literal[
    "anthropic",
    "openai-responses",
    "openai-chat",
    "google",
    "demo",
    "anthropic-bedrock",
    "anthropic-vertex",
    "google-vertex",
]
"""The wire format: `openai-chat` is any compatible server by its base URL. The last three are
Claude and Gemini in the clouds of Amazon and Google, in a region and with the cloud's own keys."""

ModelId = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f]+$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
ContextLimit = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
OutputLimit = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
ApiKey = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
Region = Annotated[str, msgspec.Meta(pattern=r"^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$(?!\n)")]
Project = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z0-9](?:[a-z0-9.:-]{0,98}[a-z0-9])?$(?!\n)", max_length=100)
]
Headers: TypeAlias = Annotated[dict[str, str], msgspec.Meta(max_length=32)]
Version = Annotated[int, msgspec.Meta(ge=1)]

Availability: TypeAlias = Literal["available", "missing_api_key", "disabled"]


class Provider(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place that serves models, as clients see it: never with its key."""

    id: ProviderId
    type: ProviderType
    display_name: str
    base_url: str | None
    has_key: bool
    enabled: bool
    preset: bool = False
    """Made from the environment at start, and gone when the environment no longer names it."""
    header_names: tuple[str, ...] = ()
    """The extra headers that are sent to it; their values are never shown."""
    version: int = 1
    """Grows with every change by an admin; name it in a change to be told of somebody else's."""
    region: str | None = None
    """Where a cloud serves the models."""
    project: str | None = None
    """Whose models they are, on Vertex AI."""


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model of a provider."""

    name: ModelName
    provider_id: ProviderId
    model_id: str
    display_name: str
    enabled: bool
    is_default: bool = False
    context_limit: int | None = None
    """Tokens that fit, prompt and answer together; None when unknown."""
    max_output_tokens: int = 32_000
    tools: bool = True
    """Whether tools are offered to it; very small models only stumble over them."""
    availability: Availability = "available"
    reason: str = ""
    """Why it cannot be used, for people; empty when it can."""
    # A factory: as a value it would have to be hashable for the OpenAPI document.
    settings: ModelSettings = msgspec.field(default_factory=ModelSettings)
    """How it is called; the provider's own options are shown to admins alone."""
    prices_edited: bool = False
    """An admin has set the prices: refreshing them leaves these alone."""
    version: int = 1
    """As of providers."""


class ListModels(msgspec.Struct, frozen=True):
    """All models, also those that cannot be used at the moment."""

    actor: Actor


class ModelList(msgspec.Struct, frozen=True):
    """Ordered by name."""

    models: tuple[Model, ...]


class ListProviders(msgspec.Struct, frozen=True):
    """All providers."""

    actor: Actor


class ProviderList(msgspec.Struct, frozen=True):
    """Ordered by id."""

    providers: tuple[Provider, ...]


class PutProvider(msgspec.Struct, frozen=True, omit_defaults=True):
    """Create a provider, or replace the one of that id. Admins only."""

    actor: Actor
    id: Slug
    type: ProviderType
    display_name: Name
    base_url: str | None = None
    api_key: ApiKey | None = None
    """None keeps the stored key."""
    enabled: bool = True
    headers: Headers | None = None
    """None keeps the stored headers."""
    version: Version | None = None
    region: Region | None = None
    project: Project | None = None


class PatchProvider(msgspec.Struct, frozen=True, omit_defaults=True):
    """Change what is named, and leave the rest. Admins only."""

    actor: Actor
    id: Slug
    type: ProviderType | UnsetType = UNSET
    display_name: Name | UnsetType = UNSET
    base_url: str | UnsetType | None = UNSET
    api_key: ApiKey | UnsetType | None = UNSET
    """None removes the stored key."""
    enabled: bool | UnsetType = UNSET
    headers: dict[str, str | None] | UnsetType = UNSET
    """Added to those that are stored; None removes one."""
    version: Version | None = None
    """Refuse the change if the provider is no longer at this version."""
    region: Region | UnsetType | None = UNSET
    project: Project | UnsetType | None = UNSET


class DeleteProvider(msgspec.Struct, frozen=True):
    """Remove a provider and its models. Chats keep their history. Admins only."""

    actor: Actor
    id: Slug


class PutModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """Create a model of a provider, or replace the one of that id. Admins only."""

    actor: Actor
    provider_id: Slug
    model_id: ModelId
    display_name: str = ""
    context_limit: ContextLimit | None = None
    max_output_tokens: OutputLimit = 32_000
    enabled: bool = True
    tools: bool = True
    make_default: bool = False
    settings: JsonObject = {}
    """`ModelSettings`; without prices, known ones are filled in."""
    version: Version | None = None


class PatchModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """Change what is named, and leave the rest. Admins only."""

    actor: Actor
    name: ModelName
    display_name: Name | UnsetType = UNSET
    context_limit: ContextLimit | UnsetType | None = UNSET
    max_output_tokens: OutputLimit | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    tools: bool | UnsetType = UNSET
    make_default: bool = False
    settings: JsonObject = {}
    """A merge patch of the settings (RFC 7396): null takes a setting back."""
    version: Version | None = None
    """Refuse the change if the model is no longer at this version."""


class DeleteModel(msgspec.Struct, frozen=True):
    """Remove a model. Its chats go on with the default at their next turn. Admins only."""

    actor: Actor
    name: ModelName


class RefreshPrices(msgspec.Struct, frozen=True):
    """Look up the prices of all models anew, but for those that an admin has set. Admins only."""

    actor: Actor


class ProviderReply(msgspec.Struct, frozen=True):
    """The provider after the change."""

    provider: Provider


class ModelReply(msgspec.Struct, frozen=True):
    """The model after the change."""

    model: Model


LIST_MODELS: Final = Method("store", "models.list", ListModels, ModelList, safe=True)
LIST_PROVIDERS: Final = Method(
    "store", "models.list_providers", ListProviders, ProviderList, safe=True
)
PUT_PROVIDER: Final = Method("store", "models.put_provider", PutProvider, ProviderReply, safe=True)
PATCH_PROVIDER: Final = Method("store", "models.patch_provider", PatchProvider, ProviderReply)
DELETE_PROVIDER: Final = Method("store", "models.delete_provider", DeleteProvider, Nothing)
PUT_MODEL: Final = Method(
    "store", "models.put_model", PutModel, ModelReply, deadline_s=20.0, safe=True
)
PATCH_MODEL: Final = Method("store", "models.patch_model", PatchModel, ModelReply)
DELETE_MODEL: Final = Method("store", "models.delete_model", DeleteModel, Nothing)
REFRESH_PRICES: Final = Method(
    "store", "models.refresh_prices", RefreshPrices, ModelList, deadline_s=30.0, safe=True
)
"""Answers with the models whose prices have changed."""
