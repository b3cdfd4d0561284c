"""Claude on Bedrock and on Vertex AI, and Gemini there: packing, proofs, errors, lists."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from contract.providers.harness import CHAT, Conversation, access_to
from fakes import clouds
from fakes.faults import Cut, Eof, Fault, Garbage, HttpError, StreamError, TinyChunks
from fakes.script import Kind, Reasoning, Text, ToolCall, Turn
from fakes.server import FakeProviders

from steersman_chatloop.providers.addresses import google_url, vertex_model_url
from steersman_chatloop.providers.anthropic_clouds import bedrock_url
from steersman_chatloop.providers.base import ProviderFailed
from steersman_chatloop.providers.registry import Providers
from steersman_chatloop.served import NoListing, fetch_from_cloud
from steersman_chatloop.served_clouds import Proofs
from steersman_contracts import cloud_keys
from steersman_contracts.chats import ErrorKind, Role
from steersman_contracts.model_options import ModelSettings
from steersman_contracts.parts import TextPart
from steersman_contracts.rpc.models import ProviderType
from steersman_contracts.rpc.worker import ModelAccess

HELLO: Final = Turn([Text("Hello there, dear world.")])
AWS: Final = {"access_key_id": clouds.AWS_KEY_ID, "secret_access_key": clouds.AWS_SECRET}
MODELS: Final[dict[ProviderType, str]] = {
    "anthropic-bedrock": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "anthropic-vertex": "claude-sonnet-4-5@20250929",
    "google-vertex": "gemini-3-pro",
}
KINDS: Final[dict[ProviderType, Kind]] = {
    "anthropic-bedrock": "bedrock",
    "anthropic-vertex": "vertex",
    "google-vertex": "gemini",
}


def key_of(cloud: ProviderType, fakes: FakeProviders) -> str:
    if cloud == "anthropic-bedrock":
        return cloud_keys.normal(cloud, msgspec.json.encode(AWS).decode())
    return cloud_keys.normal(cloud, clouds.service_account(fakes.base_url("vertex")))


def reached(cloud: ProviderType, fakes: FakeProviders, **changes: Any) -> ModelAccess:
    google = cloud != "anthropic-bedrock"
    plain = access_to(KINDS[cloud], fakes.base_url(KINDS[cloud]), MODELS[cloud])
    found = msgspec.structs.replace(
        plain,
        provider_type=cloud,
        provider_id=cloud,
        api_key=key_of(cloud, fakes),
        region="europe-west1" if google else clouds.REGION,
        project=clouds.PROJECT if google else None,
    )
    return msgspec.structs.replace(found, **changes)


@pytest.fixture(params=MODELS)
def cloud(request: pytest.FixtureRequest) -> ProviderType:
    return request.param


@pytest.fixture(params=["anthropic-bedrock", "anthropic-vertex"])
def claude(request: pytest.FixtureRequest) -> ProviderType:
    return request.param


async def failed(providers: Providers, model: ModelAccess) -> ProviderFailed:
    with pytest.raises(ProviderFailed) as caught:
        await Conversation(providers, model).say("hi")
    return caught.value


async def test_a_conversation_with_reasoning_and_tools_goes_back_as_it_came(
    cloud: ProviderType, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script(
        "*",
        [
            Turn([Reasoning("I add."), ToolCall("add", {"a": 1, "b": 2})]),
            Turn([Text("Three. "), Text("Done.")]),
        ],
    )
    settings = ModelSettings(reasoning_effort="low", temperature=None)
    chat = Conversation(providers, reached(cloud, fakes, settings=settings))

    step = await chat.say("add")
    last = await chat.answer(step, "3")

    assert (step.reasoning, step.calls[0].arguments) == ("I add.", {"a": 1, "b": 2})
    assert (last.text, last.stop) == ("Three. Done.", "end")
    assert last.ended.usage is not None
    assert not fakes.refused, "signatures came back unchanged"
    assert fakes.tokens_granted == (0 if cloud == "anthropic-bedrock" else 1), "one for all calls"


async def test_the_address_says_what_the_body_does_not(
    claude: ProviderType, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    options = ModelSettings(options={"beta_headers": ["context-1m-2025-08-07"]}, temperature=0.5)
    await Conversation(providers, reached(claude, fakes, settings=options)).say("hi")
    (seen,) = fakes.requests
    body = msgspec.json.decode(seen.raw)
    if claude == "anthropic-bedrock":
        assert seen.target == (
            "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream"
        )
        assert body["anthropic_beta"] == ["context-1m-2025-08-07"]
    else:
        assert seen.target == (
            "/v1/projects/a-project-7/locations/europe-west1/publishers/anthropic/models/"
            "claude-sonnet-4-5@20250929:streamRawPredict"
        )
        assert seen.headers["anthropic-beta"] == "context-1m-2025-08-07"
    assert "model" not in body
    assert body["temperature"] == 0.5, "the clouds speak an older version, which takes it"


TEMPORARY: Final = {**AWS, "session_token": clouds.AWS_SESSION}
PROOFS: Final[list[tuple[ProviderType, str]]] = [
    ("anthropic-bedrock", msgspec.json.encode(TEMPORARY).decode()),
    ("anthropic-bedrock", clouds.BEDROCK_KEY),
    ("anthropic-vertex", "person"),
    ("anthropic-vertex", clouds.token_for("account")),
    ("google-vertex", "person"),
    ("google-vertex", clouds.token_for("account")),
]


@pytest.mark.parametrize(("cloud", "key"), PROOFS)
async def test_every_kind_of_key_is_taken(
    cloud: ProviderType, key: str, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    if key == "person":
        key = cloud_keys.normal(cloud, clouds.person(fakes.base_url("vertex")))
    step = await Conversation(providers, reached(cloud, fakes, api_key=key)).say("hi")
    assert step.text == "Hello there, dear world."


async def test_a_large_request_is_signed_all_the_same(
    fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    step = await Conversation(providers, reached("anthropic-bedrock", fakes)).say("x" * 2_000_000)
    assert step.text == "Hello there, dear world."


def wrong_keys(cloud: ProviderType, fakes: FakeProviders) -> list[str]:
    if cloud == "anthropic-bedrock":
        secret = {**AWS, "secret_access_key": "another-secret-of-somebody-else-000"}
        session = {**AWS, "session_token": "a-session-token-that-has-ended-000000"}
        found = [{**AWS, "access_key_id": "AKIDUNKNOWN000"}, secret, session]
        return ["not-a-key-of-bedrock", *(msgspec.json.encode(one).decode() for one in found)]
    account = msgspec.json.decode(clouds.service_account(fakes.base_url("vertex")))
    other = clouds.rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        clouds.serialization.Encoding.PEM,
        clouds.serialization.PrivateFormat.PKCS8,
        clouds.serialization.NoEncryption(),
    )
    person = msgspec.json.decode(clouds.person(fakes.base_url("vertex")))
    found = [
        {**account, "private_key": other.decode()},
        {**account, "private_key": "no key at all, but a secret"},
        {**person, "refresh_token": "1//a-token-that-was-taken-back"},
    ]
    texts = [cloud_keys.normal(cloud, msgspec.json.encode(one).decode()) for one in found]
    return ["ya29.a-token-that-nobody-gave-out", *texts]


async def test_a_wrong_key_is_named_and_nothing_of_it_is_shown(
    cloud: ProviderType, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    for key in wrong_keys(cloud, fakes):
        failure = (await failed(providers, reached(cloud, fakes, api_key=key))).error
        assert (failure.kind, failure.retryable) == ("auth", False), key
        said = failure.detail + failure.message
        secrets = [key]
        if cloud_keys.is_json(key):
            secrets = [v for k, v in msgspec.json.decode(key).items() if k not in _PUBLIC]
        assert not [secret for secret in secrets if secret in said]


_PUBLIC: Final = {"type", "client_email", "project_id", "token_uri", "private_key_id"} | {
    "quota_project_id",
    "access_key_id",
    "client_id",
}


async def test_a_signature_is_for_one_region(fakes: FakeProviders, providers: Providers) -> None:
    fakes.script("*", HELLO)
    model = reached("anthropic-bedrock", fakes, region="us-east-1")
    assert (await failed(providers, model)).error.kind == "auth"


async def test_another_project_is_not_ours(fakes: FakeProviders, providers: Providers) -> None:
    fakes.script("*", HELLO)
    model = reached("anthropic-vertex", fakes, project="another-project")
    assert (await failed(providers, model)).error.kind == "auth"


async def test_a_token_that_is_refused_is_not_used_again(
    fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    model = reached("anthropic-vertex", fakes)
    await Conversation(providers, model).say("hi")
    fakes.fail("*", 401)
    await failed(providers, model)
    await Conversation(providers, model).say("hi")
    assert fakes.tokens_granted == 2


async def test_without_a_server_of_tokens_it_is_tried_again(
    fakes: FakeProviders, providers: Providers, unused_tcp_port: int
) -> None:
    key = clouds.service_account(f"http://127.0.0.1:{unused_tcp_port}")
    model = reached("anthropic-vertex", fakes, api_key=cloud_keys.normal("anthropic-vertex", key))
    failure = (await failed(providers, model)).error
    assert (failure.kind, failure.retryable) == ("timeout", True)


ERRORS: Final[list[tuple[HttpError, ErrorKind, bool]]] = [
    (HttpError(400), "config", False),
    (HttpError(400, message="Input is too long for requested model."), "context_overflow", False),
    (HttpError(400, error_type="ServiceQuotaExceededException"), "usage_limit", False),
    (HttpError(403), "auth", False),
    (HttpError(404), "config", False),
    (HttpError(408), "timeout", True),
    (HttpError(429), "rate_limit", True),
    (HttpError(429, message="Too many tokens per day, please wait"), "usage_limit", False),
    (HttpError(429, error_type="ModelNotReadyException"), "overloaded", True),
    (HttpError(500), "generic", True),
    (HttpError(503), "overloaded", True),
]


@pytest.mark.parametrize(("error", "kind", "retryable"), ERRORS, ids=str)
async def test_an_error_of_aws_is_classified(
    error: HttpError,
    kind: ErrorKind,
    fakes: FakeProviders,
    providers: Providers,
    *,
    retryable: bool,
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", error)
    failure = (await failed(providers, reached("anthropic-bedrock", fakes))).error
    assert (failure.kind, failure.retryable) == (kind, retryable)


STREAMS: Final[list[tuple[Fault, ErrorKind]]] = [
    (StreamError(deltas=1), "rate_limit"),
    (StreamError(deltas=1, error_type="internalServerException"), "generic"),
    (StreamError(deltas=1, error_type="serviceUnavailableException"), "overloaded"),
    (StreamError(deltas=1, error_type="modelTimeoutException"), "timeout"),
    (Cut(deltas=1), "timeout"),
    (Cut(deltas=1, mid_frame=True), "timeout"),
    (Eof(deltas=1), "timeout"),
    (Garbage(deltas=1), "timeout"),
]


@pytest.mark.parametrize(("fault", "kind"), STREAMS, ids=str)
async def test_a_stream_of_aws_that_breaks_can_be_tried_again(
    fault: Fault, kind: ErrorKind, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", fault)
    failure = (await failed(providers, reached("anthropic-bedrock", fakes))).error
    assert (failure.kind, failure.retryable) == (kind, True)


async def test_frames_are_read_however_they_are_cut(
    claude: ProviderType, fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", HELLO)
    fakes.fault("*", TinyChunks())
    step = await Conversation(providers, reached(claude, fakes)).say("hi")
    assert step.text == "Hello there, dear world."


async def test_a_model_can_be_switched_between_clouds_in_the_middle_of_a_chat(
    fakes: FakeProviders, providers: Providers
) -> None:
    fakes.script("*", Turn([Reasoning("Hm."), Text("Said.")]))
    chat = Conversation(providers, reached("anthropic-bedrock", fakes))
    for cloud in MODELS:
        chat.model = reached(cloud, fakes)
        chat.add(Role.USER, [TextPart("next")])
        assert (await chat.step()).text == "Said."
    assert not fakes.refused
    assert chat.request().chat_id == CHAT


async def test_a_cloud_lists_its_models(cloud: ProviderType, fakes: FakeProviders) -> None:
    fakes.script("claude-x", HELLO)
    fakes.script("gemini-x", HELLO)
    found = [model.model_id for model in await fetch_from_cloud(reached(cloud, fakes), Proofs())]
    if cloud == "anthropic-bedrock":
        assert found == [
            "anthropic.claude-x",
            "anthropic.echo",
            "anthropic.gemini-x",
            "anthropic.tokens-100",
            "eu.anthropic.claude-by-profile",
            "us.anthropic.claude-by-profile",
        ]
    else:
        assert found == ["claude-x", "gemini-x"]


async def test_a_list_that_is_refused_says_why(cloud: ProviderType, fakes: FakeProviders) -> None:
    for key in wrong_keys(cloud, fakes):
        with pytest.raises(NoListing, match=r"did not accept|gives no access"):
            await fetch_from_cloud(reached(cloud, fakes, api_key=key), Proofs())


PLACES: Final = [
    ("us-east-1", "https://bedrock-runtime.us-east-1.amazonaws.com/model/"),
    ("cn-north-1", "https://bedrock-runtime.cn-north-1.amazonaws.com.cn/model/"),
]


@pytest.mark.parametrize(("region", "root"), PLACES)
def test_a_region_of_aws_has_its_own_address(region: str, root: str, fakes: FakeProviders) -> None:
    model = reached("anthropic-bedrock", fakes, base_url=None, region=region)
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
    model = msgspec.structs.replace(model, model_id=arn)
    assert bedrock_url(model) == (
        f"{root}arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fabc"
        "/invoke-with-response-stream"
    )


REGIONS: Final = [
    ("global", "https://aiplatform.googleapis.com/v1/"),
    ("eu", "https://aiplatform.eu.rep.googleapis.com/v1/"),
    ("us-east5", "https://us-east5-aiplatform.googleapis.com/v1/"),
]


@pytest.mark.parametrize(("region", "root"), REGIONS)
def test_a_region_of_google_has_its_own_address(
    region: str, root: str, fakes: FakeProviders
) -> None:
    model = reached("anthropic-vertex", fakes, base_url=None, region=region)
    assert vertex_model_url(model, "anthropic", "streamRawPredict") == (
        f"{root}projects/a-project-7/locations/{region}/publishers/anthropic/models/"
        "claude-sonnet-4-5@20250929:streamRawPredict"
    )


def test_gemini_is_called_without_a_project_by_a_key_that_has_one(fakes: FakeProviders) -> None:
    model = reached("google-vertex", fakes, base_url=None, region="global", project=None)
    assert google_url(model) == (
        "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-3-pro"
        ":streamGenerateContent?alt=sse"
    )
