"""The keys of clouds: what an administrator pastes as JSON in place of a key.

They are stored like any other key, as one line of text, and read again where models are called.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from steersman_contracts.errors import InvalidRequest

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=8000)]
TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # an address


class AwsKeys(msgspec.Struct, frozen=True, omit_defaults=True):
    """An access key of AWS."""

    access_key_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]{1,128}$(?!\n)")]
    secret_access_key: Text
    session_token: Text | None = None
    """With temporary keys; they stop working when it ends."""


class ServiceAccount(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="service_account"
):
    """A service account of Google Cloud, as its key file says it."""

    client_email: Text
    private_key: Text
    """PEM."""
    private_key_id: str = ""
    project_id: str | None = None
    token_uri: Text = TOKEN_URI


class AuthorizedUser(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="authorized_user"
):
    """A person's own access, as `gcloud auth application-default login` leaves it."""

    client_id: Text
    client_secret: Text
    refresh_token: Text
    quota_project_id: str | None = None
    token_uri: Text = TOKEN_URI


GoogleKeys: TypeAlias = ServiceAccount | AuthorizedUser

_KINDS: Final = {
    "anthropic-bedrock": AwsKeys,
    "anthropic-vertex": GoogleKeys,
    "google-vertex": GoogleKeys,
}
CLOUDS: Final = frozenset(_KINDS)
"""Provider types that want a region."""


def is_json(key: str | None) -> bool:
    """Say whether a key of a cloud is one of these, and not a plain one."""
    return key is not None and key.lstrip().startswith("{")


def parse_aws(key: str) -> AwsKeys:
    """Read stored keys of AWS."""
    return msgspec.json.decode(key, type=AwsKeys)


def parse_google(key: str) -> GoogleKeys:
    """Read stored keys of Google."""
    return msgspec.json.decode(key, type=GoogleKeys)


def normal(provider_type: str, key: str) -> str:
    """The key as it is stored: JSON on one line, without what nobody needs.

    Raises:
        InvalidRequest: It is JSON, but no keys of this cloud. Nothing of it is shown.
    """
    if provider_type not in _KINDS or not is_json(key):
        return key
    try:
        found: AwsKeys | GoogleKeys = msgspec.json.decode(key, type=_KINDS[provider_type])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the key: {error}", field="api_key") from None
    except (msgspec.DecodeError, UnicodeError):
        raise InvalidRequest("the key begins like JSON and is none", field="api_key") from None
    return msgspec.json.encode(found).decode()


def project_of(key: str | None) -> str | None:
    """The project that a service account belongs to."""
    if key is None or not is_json(key):
        return None
    found = parse_google(key)
    return found.project_id if isinstance(found, ServiceAccount) else found.quota_project_id
