"""Settings of the store."""

from __future__ import annotations

from typing import Annotated

import msgspec

from steersman_runtime.settings import Secret, ServiceSettings


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """Read from `STEERSMAN_STORE_…`, `STEERSMAN_…` or the table `store` of the TOML file."""

    database_url: Secret
    """`postgresql://…`; a socket is `postgresql://user:password@/name?host=/path`."""
    secret_key: Secret
    """32 random bytes in base64: encrypts provider keys. Losing it loses them."""
    nats_system_url: Secret | None = None
    """A user of NATS's system account: tells at once when a chatloop has died."""
    pool_size: Annotated[int, msgspec.Meta(ge=2, le=200)] = 8
    relay_ranges: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Into how many ranges of partitions the outbox is split; the same for all replicas."""
    sweep_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """Seconds between looks for runnable chats that nobody works on."""
    max_agent_depth: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    """How deep agents may have agents of their own; 0 turns them off."""
    max_agents: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 64
    """Agents of one chat that may be at work at the same time."""
    keep_deleted_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 120.0
    """Seconds that the log keeps the last event of a deleted chat, for whoever watches it."""
    event_max_age_s: Annotated[float, msgspec.Meta(ge=60)] = 86_400.0
    event_max_bytes: Annotated[int, msgspec.Meta(ge=2**20)] = 8 * 2**30
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    """JetStream replicas of the streams."""
    local_model_url: str | None = None
    local_model_key: Secret | None = None
    anthropic_api_key: Secret | None = None
    openai_api_key: Secret | None = None
    gemini_api_key: Secret | None = None
    aws_region: str | None = None
    """With one of the keys below: Claude on Bedrock is offered from the start."""
    aws_bearer_token_bedrock: Secret | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: Secret | None = None
    aws_session_token: Secret | None = None
    google_credentials: Secret | None = None
    """The JSON of a service account: Gemini and Claude on Vertex AI are offered from the start."""
    google_cloud_project: str | None = None
    google_cloud_location: str = "global"
