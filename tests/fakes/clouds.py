"""Claude on Bedrock and Vertex AI, and Gemini there: other packing, other proofs of who asks.

Signatures are computed here from AWS's description of them, not with the code that is under test.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
import time
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fakes.anthropic import Anthropic
from fakes.faults import HttpError, StreamError
from fakes.script import Kind, Plan, Turn
from fakes.wire import Call, HttpRequest, Ids, Issued, Refused, bearer, encode, sign

REGION: Final = "eu-test-1"
AWS_KEY_ID: Final = "AKIDEXAMPLE0000000000"
AWS_SECRET: Final = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
AWS_SESSION: Final = "a-session-token-of-a-test//=="
BEDROCK_KEY: Final = "bedrock-api-key-of-a-test"
PROJECT: Final = "a-project-7"
ACCOUNT: Final = "loop@a-project-7.iam.gserviceaccount.com"
REFRESH: Final = "1//refresh-token-of-a-person"
AUDIENCE: Final = "https://oauth2.googleapis.com/token"
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

_EVENTS: Final = "application/vnd.amazon.eventstream"
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)
_ERRORS: Final[Mapping[int, str]] = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of AWS's event streams."""
    packed = b""
    for name, value in headers.items():
        packed += bytes([len(name)]) + name.encode() + b"\x07"
        packed += struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _chunk(sse: bytes) -> bytes:
    """An event of Anthropic's as Bedrock packs it, with some of its padding."""
    data = next(line[6:] for line in sse.splitlines() if line.startswith(b"data: "))
    payload = encode({"bytes": base64.b64encode(data).decode(), "p": "abcdefghi"})
    names = {
        ":event-type": "chunk",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    return frame(names, payload)


class Bedrock(Anthropic):
    kind: Kind = "bedrock"
    content_type = _EVENTS

    def parse(self, request: HttpRequest, issued: Issued) -> Call:
        check_aws(request)
        body = _unpacked(request, "bedrock-2023-05-31")
        for name in ("model", "stream"):
            if name in body:
                raise Refused(f"{name}: Extra inputs are not permitted", field=name)
        betas = ",".join(body.pop("anthropic_beta", []))
        model = request.path.split("/")[2]
        return super().parse(_plain(body | {"model": model, "stream": True}, betas), issued)

    def render(self, turn: Turn, call: Call, ids: Ids, issued: Issued) -> Plan:
        plan = super().render(turn, call, ids, issued)
        plan.frames = [_chunk(event) for event in plan.frames]
        return plan

    def refusal(self, refused: Refused, request_id: str) -> bytes:
        kind = refused.code or _ERRORS.get(refused.status, "ValidationException")
        return encode({"__type": kind, "message": refused.message})

    def error_body(self, error: HttpError, request_id: str) -> bytes:
        kind = error.error_type or _ERRORS.get(error.status, "InternalServerException")
        return encode({"__type": kind, "message": error.message or "a fault"})

    def error_frame(self, error: StreamError, request_id: str, sequence: int) -> bytes:
        kind = error.error_type or "throttlingException"
        names = {
            ":exception-type": kind,
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        return frame(names, encode({"message": error.message or "Too many requests"}))

    def response_headers(self, request_id: str) -> Mapping[str, str]:
        return {"x-amzn-requestid": request_id}


class Vertex(Anthropic):
    kind: Kind = "vertex"

    def parse(self, request: HttpRequest, issued: Issued) -> Call:
        check_google(request)
        body = _unpacked(request, "vertex-2023-10-16")
        if "model" in body:
            raise Refused("model: Extra inputs are not permitted", field="model")
        model = request.path.rpartition("/")[2].partition(":")[0]
        betas = request.headers.get("anthropic-beta", "")
        return super().parse(_plain(body | {"model": model}, betas), issued)

    def response_headers(self, request_id: str) -> Mapping[str, str]:
        return {"request-id": request_id}


def _unpacked(request: HttpRequest, version: str) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(request.raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refused("Malformed input request", field="body") from error
    if body.pop("anthropic_version", None) != version:
        raise Refused(f"anthropic_version: {version} is required", field="anthropic_version")
    return body


def _plain(body: dict[str, Any], betas: str) -> HttpRequest:
    headers = {"authorization": "Bearer checked", "anthropic-version": "2023-06-01"}
    if betas:
        headers["anthropic-beta"] = betas
    return HttpRequest("POST", "/v1/messages", {}, headers, encode(body))


# AWS


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def check_aws(request: HttpRequest) -> None:
    """Refuse what is not signed as version 4 of AWS's signatures says, or has no key of Bedrock."""
    given = request.headers.get("authorization", "")
    if (key := bearer(request.headers)) is not None:
        if key != BEDROCK_KEY:
            raise Refused("Authentication failed", status=403, code="AccessDeniedException")
        return
    match = _AUTHORIZATION.fullmatch(given)
    if match is None:
        raise _unsigned("Missing Authentication Token", "MissingAuthenticationTokenException")
    key_id, day, region, service, names, signature = match.groups()
    if key_id != AWS_KEY_ID:
        raise _unsigned(
            "The security token included in the request is invalid.",
            "UnrecognizedClientException",
        )
    if (region, service) != (REGION, "bedrock"):
        raise _unsigned(
            "Credential should be scoped to a valid region", "InvalidSignatureException"
        )
    signed = names.split(";")
    if not {"host", "x-amz-date"} <= set(signed) or signed != sorted(signed):
        raise _unsigned("host and x-amz-date must be signed", "InvalidSignatureException")
    stamp = request.headers.get("x-amz-date", "")
    sent = time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.timezone
    if not stamp.startswith(day) or abs(time.time() - sent) > 900:
        raise _unsigned("Signature expired", "InvalidSignatureException")
    if "x-amz-security-token" in request.headers and (
        request.headers["x-amz-security-token"] != AWS_SESSION
        or "x-amz-security-token" not in signed
    ):
        raise _unsigned("The security token is expired", "ExpiredTokenException")
    path, _, query = request.target.partition("?")
    fields = sorted(parse_qsl(query, keep_blank_values=True))
    canonical = "\n".join(
        [
            request.method,
            quote(path, safe="/-_.~"),  # every service but S3 encodes twice
            "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in fields),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in signed),
            "",
            names,
            hashlib.sha256(request.raw).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{day}/{region}/bedrock/aws4_request\n{digest}"
    key_bytes = b"AWS4" + AWS_SECRET.encode()
    for scope in (day, region, "bedrock", "aws4_request"):
        key_bytes = _mac(key_bytes, scope)
    if not hmac.compare_digest(_mac(key_bytes, text).hex(), signature):
        # As AWS does: it quotes what it has signed, secrets and all.
        raise _unsigned(
            "The request signature we calculated does not match the signature you provided. "
            f"The Canonical String for this request should have been '{canonical}'",
            "InvalidSignatureException",
        )


def _unsigned(message: str, code: str) -> Refused:
    return Refused(message, status=403, code=code, field="authorization")


def aws_models(request: HttpRequest, models: list[str]) -> object:
    """The listings of Bedrock: models, and the profiles that spread them over regions."""
    check_aws(request)
    if request.path == "/foundation-models":
        if request.query.get("byProvider") != "anthropic":
            raise Refused("byProvider", field="byProvider")
        return {
            "modelSummaries": [
                {
                    "modelId": f"anthropic.{name}",
                    "modelName": name.title(),
                    "providerName": "Anthropic",
                    "responseStreamingSupported": name != "tool-echo",
                    "inferenceTypesSupported": ["ON_DEMAND"],
                }
                for name in models
            ]
            + [
                {
                    "modelId": "anthropic.claude-by-profile",
                    "responseStreamingSupported": True,
                    "inferenceTypesSupported": ["INFERENCE_PROFILE"],
                }
            ]
        }
    if request.query.get("nextToken") != "more":
        return {
            "inferenceProfileSummaries": [
                {
                    "inferenceProfileId": "eu.anthropic.claude-by-profile",
                    "inferenceProfileName": "EU Claude",
                    "status": "ACTIVE",
                }
            ],
            "nextToken": "more",
        }
    return {
        "inferenceProfileSummaries": [
            {"inferenceProfileId": "eu.amazon.other", "status": "ACTIVE"},
            {"inferenceProfileId": "us.anthropic.claude-by-profile", "status": "ACTIVE"},
        ]
    }


# Google


@cache
def private_key() -> rsa.RSAPrivateKey:
    """The key of the service account; its public half is known here alone."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def service_account(root: str) -> str:
    """The key file of the service account, as people download it."""
    pem = private_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    found = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "0123456789abcdef",
        "private_key": pem.decode(),
        "client_email": ACCOUNT,
        "client_id": "1234567890",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": f"{root}/token",
        "universe_domain": "googleapis.com",
    }
    return msgspec.json.format(encode(found), indent=2).decode()


def person(root: str) -> str:
    """The access of a person, as `gcloud` leaves it."""
    found = {
        "type": "authorized_user",
        "client_id": "client.apps.googleusercontent.com",
        "client_secret": "a-client-secret",
        "refresh_token": REFRESH,
        "quota_project_id": PROJECT,
        "token_uri": f"{root}/token",
    }
    return encode(found).decode()


def token_for(who: str) -> str:
    return f"ya29.{who}.{sign('google', who)}"


def check_google(request: HttpRequest) -> None:
    """Refuse a call without a token that was given out here, or for another project."""
    token = bearer(request.headers) or ""
    who = token.removeprefix("ya29.").rpartition(".")[0]
    if not who or token != token_for(who):
        raise Refused("Request had invalid authentication credentials.", status=401)
    if who == "person" and request.headers.get("x-goog-user-project") != PROJECT:
        raise Refused("a quota project is required", status=403)
    if f"/projects/{PROJECT}/locations/" not in request.path and "/models/" in request.path:
        raise Refused(f"Permission denied on resource {request.path}", status=403)


def grant(request: HttpRequest) -> tuple[int, bytes]:
    """Give out a token for a signed claim or for a token of renewal."""
    form = dict(parse_qsl(request.raw.decode()))
    if form.get("grant_type") == "refresh_token":
        if form.get("refresh_token") != REFRESH:
            return 400, encode({"error": "invalid_grant", "error_description": "Bad Request"})
        return 200, _granted("person")
    try:
        head, claims, signature = form["assertion"].split(".")
        private_key().public_key().verify(
            _unpadded(signature),
            f"{head}.{claims}".encode(),
            padding.PKCS1v15(),
            hashes.SHA256(),
        )
        said = msgspec.json.decode(_unpadded(claims), type=dict[str, Any])
        fits = (said["iss"], said["aud"], said["scope"]) == (ACCOUNT, AUDIENCE, SCOPE)
        fits = fits and said["iat"] <= time.time() + 60 and said["exp"] >= time.time()
    except (KeyError, ValueError, InvalidSignature, msgspec.DecodeError):
        fits = False
    if not fits:
        wrong = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        return 400, encode(wrong)
    return 200, _granted("account")


def _granted(who: str) -> bytes:
    return encode({"access_token": token_for(who), "expires_in": 3599, "token_type": "Bearer"})


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def google_models(request: HttpRequest, models: list[str]) -> object:
    """The listing of Vertex AI."""
    check_google(request)
    publisher = request.path.split("/")[-2]
    return {
        "publisherModels": [
            {"name": f"publishers/{publisher}/models/{name}", "versionId": "001"} for name in models
        ]
    }
