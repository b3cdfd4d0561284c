"""Providers and models that the environment brings along: keys, the local model, the demo.

What an admin has stored wins: a provider of the same id that is no preset is left alone. A preset
that the environment no longer names is disabled, not deleted, so that its chats can say why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from steersman_contracts import cloud_keys
from steersman_contracts.errors import InvalidRequest
from steersman_contracts.model_options import ModelSettings, Prices
from steersman_contracts.rpc.models import ProviderType
from steersman_runtime.settings import Secret
from steersman_store.database import Database, json_text
from steersman_store.secrets import Vault
from steersman_store.settings import Settings

log = structlog.stdlib.get_logger()


class PresetModel(NamedTuple):
    """One model of a preset."""

    model_id: str
    display_name: str
    context_limit: int | None = None
    max_output_tokens: int = 32_000
    tools: bool = True
    free: bool = False


class Preset(NamedTuple):
    """A provider from the environment. Earlier ones are preferred as the default."""

    id: str
    type: ProviderType
    display_name: str
    models: Sequence[PresetModel]
    base_url: str | None = None
    key: Secret | None = None
    region: str | None = None
    project: str | None = None


_ANTHROPIC: Final = (
    PresetModel("claude-sonnet-5-5", "Claude Sonnet 5.5"),
    PresetModel("claude-opus-5-5", "Claude Opus 5.5"),
    PresetModel("claude-haiku-5-5", "Claude Haiku 5.5"),
)
_OPENAI: Final = (
    PresetModel("gpt-6.2-sol", "GPT-6.2 Sol"),
    PresetModel("gpt-6-luna", "GPT-6 Luna"),
    PresetModel("gpt-5.4-mini", "GPT-5.4 mini"),
)
_GOOGLE: Final = (
    PresetModel("gemini-3.8-flash", "Gemini 3.8 Flash"),
    PresetModel("gemini-3.1-pro-preview", "Gemini 3.1 Pro"),
    PresetModel("gemini-2.5-flash", "Gemini 2.5 Flash"),
)
# Profiles that send a request to whichever region has room.
_BEDROCK: Final = (
    PresetModel("global.anthropic.claude-sonnet-5-5", "Claude Sonnet 5.5"),
    PresetModel("global.anthropic.claude-opus-5-5", "Claude Opus 5.5"),
    PresetModel("global.anthropic.claude-haiku-5-5", "Claude Haiku 5.5"),
)
# The context is split over two slots; see the model server of the command `steersman up`.
_LOCAL: Final = (
    PresetModel(
        "smollm2-135m-instruct", "SmolLM2 135M (local)", 4096, 1024, tools=False, free=True
    ),
)
_DEMO: Final = (
    PresetModel("tour", "Demo: a tour with tools", free=True),
    PresetModel("echo", "Demo: echo", free=True),
    PresetModel("count", "Demo: counts slowly", free=True),
    PresetModel("flaky", "Demo: fails twice, then answers", free=True),
    PresetModel("broken", "Demo: fails for good", free=True),
    PresetModel("tools-parallel", "Demo: three tools at once", free=True),
)


def presets(settings: Settings) -> list[Preset]:
    """What this environment offers, the preferred default first."""
    found: list[Preset] = []
    if settings.anthropic_api_key:
        found.append(
            Preset(
                "anthropic", "anthropic", "Anthropic", _ANTHROPIC, key=settings.anthropic_api_key
            )
        )
    if settings.openai_api_key:
        found.append(
            Preset("openai", "openai-responses", "OpenAI", _OPENAI, key=settings.openai_api_key)
        )
    if settings.gemini_api_key:
        found.append(
            Preset("google", "google", "Google Gemini", _GOOGLE, key=settings.gemini_api_key)
        )
    if settings.local_model_url:
        found.append(
            Preset(
                "local",
                "openai-chat",
                "On this machine",
                _LOCAL,
                base_url=settings.local_model_url,
                key=settings.local_model_key,
            )
        )
    found += _clouds(settings)
    found.append(Preset("demo", "demo", "Demo", _DEMO))
    return found


def _clouds(settings: Settings) -> list[Preset]:
    """Never preferred to a key that is for models alone: these open other doors as well."""
    found: list[Preset] = []
    if settings.aws_region and (key := _aws_key(settings)) is not None:
        found.append(
            Preset(
                "bedrock",
                "anthropic-bedrock",
                "Amazon Bedrock",
                _BEDROCK,
                key=key,
                region=settings.aws_region,
            )
        )
    if settings.google_credentials:
        kinds: list[tuple[str, ProviderType, str, Sequence[PresetModel]]] = [
            ("vertex", "google-vertex", "Vertex AI", _GOOGLE),
            ("vertex-anthropic", "anthropic-vertex", "Claude on Vertex AI", _ANTHROPIC),
        ]
        try:
            text = cloud_keys.normal("google-vertex", settings.google_credentials.reveal())
            project = settings.google_cloud_project or cloud_keys.project_of(text)
        except (InvalidRequest, msgspec.DecodeError) as error:
            # Such as a key file of a kind that reads others on this machine.
            log.warning("preset.unusable", provider="vertex", error=str(error))
            return found
        if project is None:
            log.warning("preset.unusable", provider="vertex", error="no project is named")
            return found
        place = settings.google_cloud_location
        found += [
            Preset(name, kind, title, models, key=Secret(text), region=place, project=project)
            for name, kind, title, models in kinds
        ]
    return found


def _aws_key(settings: Settings) -> Secret | None:
    if settings.aws_bearer_token_bedrock:
        return settings.aws_bearer_token_bedrock
    if not settings.aws_access_key_id or not settings.aws_secret_access_key:
        return None
    session = settings.aws_session_token
    keys = cloud_keys.AwsKeys(
        settings.aws_access_key_id,
        settings.aws_secret_access_key.reveal(),
        session.reveal() if session else None,
    )
    return Secret(msgspec.json.encode(keys).decode())


def _row(provider_id: str, model: PresetModel) -> tuple[object, ...]:
    """The columns of a preset. What costs something is looked up once the store runs."""
    settings = ModelSettings(prices=Prices(input=0, output=0) if model.free else Prices())
    source = "list" if model.free else None
    return (
        f"{provider_id}/{model.model_id}",
        provider_id,
        *model[:-1],
        json_text(settings),
        source,
    )


async def write_presets(database: Database, vault: Vault, found: Sequence[Preset]) -> None:
    """Store the presets; safe to repeat, and safe when several stores start at once."""
    async with database.transaction() as connection:
        await connection.execute("LOCK TABLE providers IN SHARE ROW EXCLUSIVE MODE")
        for preset in found:
            sealed = None if preset.key is None else vault.seal(preset.key.reveal(), preset.id)
            mine = await connection.fetchval(
                "INSERT INTO providers AS p (id, type, display_name, base_url, api_key, region, "
                "project, preset, unreached_since) VALUES ($1, $2, $3, $4, $5, $6, $7, true, "
                # An address that came with the deployment is no typing error of anybody.
                "CASE WHEN $4::text IS NULL THEN now() END) "
                "ON CONFLICT (id) DO UPDATE SET type = $2, display_name = $3, base_url = $4, "
                "api_key = $5, region = $6, project = $7, enabled = true, "
                "updated_at = now(), unreached_since = CASE WHEN $4::text IS NULL "
                "THEN p.unreached_since END WHERE p.preset RETURNING true",
                preset.id,
                preset.type,
                preset.display_name,
                preset.base_url,
                sealed,
                preset.region,
                preset.project,
            )
            if not mine:
                continue
            await connection.executemany(
                "INSERT INTO models AS m (name, provider_id, model_id, display_name, "
                "context_limit, max_output_tokens, tools, settings, prices_source, preset) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, true) "
                "ON CONFLICT (name) DO UPDATE SET display_name = $4, context_limit = $5, "
                "max_output_tokens = $6, tools = $7, "
                "settings = CASE WHEN $9::text IS NULL THEN m.settings ELSE $8::json END, "
                "prices_source = coalesce($9, m.prices_source) WHERE m.preset",
                [_row(preset.id, model) for model in preset.models],
            )
        present = [preset.id for preset in found]
        await connection.execute(
            "UPDATE providers SET enabled = false WHERE preset AND NOT id = ANY ($1)", present
        )
        # An admin's choice stays; otherwise the preferred preset is the default.
        if not await connection.fetchval("SELECT true FROM models WHERE is_default AND NOT preset"):
            await connection.execute("UPDATE models SET is_default = false WHERE is_default")
            await connection.execute(
                "UPDATE models SET is_default = true WHERE name = $1 AND deleted_at IS NULL",
                f"{found[0].id}/{found[0].models[0].model_id}",
            )
    log.info("presets.written", providers=present)
