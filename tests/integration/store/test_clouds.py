"""Providers in clouds: their place, their keys, and what the environment brings along."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from support.chat_driver import StoreDriver
from support.services import SECRET_KEY

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.rpc import Actor, models
from steersman_contracts.rpc import worker as work
from steersman_runtime.settings import Secret
from steersman_store.database import open_database
from steersman_store.presets import presets, write_presets
from steersman_store.secrets import Vault
from steersman_store.settings import Settings

pytestmark = pytest.mark.one_stack

AWS: Final = '{\n "access_key_id": "AKIDEXAMPLE",\n "secret_access_key": "secret/of+aws=="\n}'
ACCOUNT: Final = msgspec.json.format(
    msgspec.json.encode(
        {
            "type": "service_account",
            "project_id": "project-of-the-key",
            "private_key": "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n",
            "client_email": "a@b.iam.gserviceaccount.com",
            "universe_domain": "googleapis.com",
        }
    )
).decode()
EXTERNAL: Final = '{"type": "external_account", "credential_source": {"file": "/etc/passwd"}}'

BAD: Final[list[tuple[dict[str, Any], str]]] = [
    ({"region": None}, "region"),
    ({"project": "p"}, "project"),
    ({"api_key": '{"access_key_id": "AKID"}'}, "api_key"),
    ({"api_key": '{"access_key_id": "AKID", "secret'}, "api_key"),
    ({"api_key": ACCOUNT}, "api_key"),
    ({"type": "anthropic-vertex", "api_key": AWS}, "api_key"),
    ({"type": "anthropic-vertex", "api_key": EXTERNAL}, "api_key"),
    ({"type": "anthropic-vertex", "api_key": "a-key-without-a-project"}, "project"),
    ({"type": "anthropic", "api_key": "k"}, "region"),
    ({"type": "openai-chat", "api_key": "k", "region": None, "project": "p"}, "project"),
]


class Clouds:
    """Short names for what an admin does."""

    def __init__(self, store: StoreDriver) -> None:
        self.rpc = store.rpc
        self.actor = Actor(store.actor.user_id, "admin")

    async def put(self, **fields: Any) -> models.Provider:
        values: dict[str, Any] = {
            "id": "cloud",
            "type": "anthropic-bedrock",
            "display_name": "Cloud",
            "api_key": AWS,
            "region": "us-east-1",
        }
        request = models.PutProvider(self.actor, **(values | fields))
        return (await self.rpc.call(models.PUT_PROVIDER, request)).provider

    async def change(self, **fields: Any) -> models.Provider:
        request = models.PatchProvider(self.actor, "cloud", **fields)
        return (await self.rpc.call(models.PATCH_PROVIDER, request)).provider

    async def reached(self, provider: str = "cloud") -> work.ModelAccess:
        request = work.GetProviderAccess(self.actor, provider)
        return (await self.rpc.call(work.PROVIDER_ACCESS, request)).model


@pytest.fixture
def clouds(store: StoreDriver) -> Clouds:
    return Clouds(store)


async def test_a_cloud_is_stored_with_its_place_and_its_key_goes_to_chatloop_alone(
    clouds: Clouds,
) -> None:
    shown = await clouds.put()
    assert (shown.region, shown.project, shown.has_key) == ("us-east-1", None, True)
    assert b"secret" not in msgspec.json.encode(shown)
    reached = await clouds.reached()
    assert (reached.region, reached.disabled) == ("us-east-1", None)
    assert reached.api_key == (
        '{"access_key_id":"AKIDEXAMPLE","secret_access_key":"secret/of+aws=="}'
    )

    await clouds.change(region="eu-central-1")
    moved = await clouds.reached()
    assert (moved.region, moved.api_key) == ("eu-central-1", reached.api_key)

    await clouds.change(api_key=None)
    assert (await clouds.reached()).disabled == "missing_key"


async def test_a_service_account_says_its_project(clouds: Clouds) -> None:
    shown = await clouds.put(type="anthropic-vertex", api_key=ACCOUNT, region="us-east5")
    assert shown.project == "project-of-the-key"
    assert (await clouds.change(project="another-one")).project == "another-one"
    reached = await clouds.reached()
    assert reached.project == "another-one"
    assert "universe_domain" not in (reached.api_key or "")


@pytest.mark.parametrize(("fields", "field"), BAD)
async def test_a_cloud_that_cannot_be_reached_is_refused_by_name(
    clouds: Clouds, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await clouds.put(**fields)
    assert caught.value.details["field"] == field
    assert "secret" not in str(caught.value).replace("secret_access_key", "")


async def test_a_search_that_bedrock_does_not_have_is_refused(clouds: Clouds) -> None:
    await clouds.put()
    request = models.PutModel(
        clouds.actor,
        provider_id="cloud",
        model_id="global.anthropic.claude-sonnet-5-5",
        settings={"options": {"web_search_enabled": True}},
    )
    with pytest.raises(InvalidRequest, match="no web_search"):
        await clouds.rpc.call(models.PUT_MODEL, request)


async def test_the_environment_brings_clouds_along(clouds: Clouds, database_url: str) -> None:
    settings = Settings(
        nats_url=Secret("unused"),
        database_url=Secret("unused"),
        secret_key=Secret("unused"),
        local_model_url="http://127.0.0.1:9/v1",
        aws_region="us-west-2",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key=Secret("secret/of+aws=="),
        aws_session_token=Secret("a-token"),
        google_credentials=Secret(ACCOUNT),
        google_cloud_location="europe-west1",
    )
    found = presets(settings)
    assert [one.id for one in found] == ["local", "bedrock", "vertex", "vertex-anthropic", "demo"]
    async with open_database(database_url, size=2) as database:
        await write_presets(database, Vault(SECRET_KEY), found)

    aws = await clouds.reached("bedrock")
    assert msgspec.json.decode(aws.api_key or "") == {
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "secret/of+aws==",
        "session_token": "a-token",
    }
    assert aws.region == "us-west-2"
    for name in ("vertex", "vertex-anthropic"):
        google = await clouds.reached(name)
        assert (google.region, google.project) == ("europe-west1", "project-of-the-key")


def test_a_key_file_that_reads_others_is_no_preset() -> None:
    settings = Settings(
        nats_url=Secret("unused"),
        database_url=Secret("unused"),
        secret_key=Secret("unused"),
        aws_region="us-west-2",
        google_credentials=Secret(EXTERNAL),
    )
    assert [one.id for one in presets(settings)] == ["demo"]
