"""Bodies of the public REST API. Unknown fields are refused with the field named."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from steersman_contracts.chats import Chat, ClientTool, Message, Role
from steersman_contracts.ids import ModelName, QueuedId, Slug, Uuid
from steersman_contracts.model_options import Effort
from steersman_contracts.parts import (
    CONTENT_VERSION,
    LEGACY_VERSION,
    MAX_TEXT,
    FilePart,
    FileReferencePart,
    JsonObject,
    Part,
    Parts,
    TextPart,
)
from steersman_contracts.policies import Decision, Glob, Level, Scope
from steersman_contracts.rpc import UserRole
from steersman_contracts.rpc.chats import (
    MAX_CLIENT_TOOLS,
    MAX_QUEUED,
    BusyBehavior,
    ClientKey,
)
from steersman_contracts.rpc.files import StoredFile
from steersman_contracts.rpc.mcp import Chosen, McpChanges, McpServer, McpSettings
from steersman_contracts.rpc.models import (
    ApiKey,
    ContextLimit,
    Headers,
    Model,
    ModelId,
    Name,
    OutputLimit,
    Project,
    Provider,
    ProviderType,
    Region,
)
from steersman_contracts.rpc.models import (
    Version as EntryVersion,
)
from steersman_contracts.rpc.plugins import SecretValue
from steersman_contracts.rpc.policies import AuditEntry, Grant
from steersman_contracts.rpc.tools import ToolSpec
from steersman_contracts.rpc.users import Account, UserName
from steersman_contracts.terms import TurnLimits

ModelRef = Annotated[str, msgspec.Meta(min_length=3, max_length=264, pattern=r"^[^/\s]+/[^\s]+$")]
Title = Annotated[str, msgspec.Meta(max_length=200)]
Prompt = Annotated[str, msgspec.Meta(max_length=10_000)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
BaseUrl = Annotated[str, msgspec.Meta(max_length=500, pattern=r"^https?://[^\s]+$")]
Line = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]


class TextInput(
    msgspec.Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True
):
    """Text from a client. What only providers may set cannot be sent."""

    text: Text


class FileReferenceInput(
    msgspec.Struct, frozen=True, tag_field="type", tag="file-reference", forbid_unknown_fields=True
):
    """Lines of a file that a person points at."""

    file_name: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    start_line: Line
    end_line: Line
    content: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class FileInput(
    msgspec.Struct, frozen=True, tag_field="type", tag="file", forbid_unknown_fields=True
):
    """A file that was uploaded before; its name and kind are those that the server knows."""

    file_id: Uuid


InputPart: TypeAlias = TextInput | FileReferenceInput | FileInput


def to_parts(text: str | None, parts: tuple[InputPart, ...]) -> Parts:
    """The parts of a user message, `text` first."""
    head: tuple[Part, ...] = () if text is None else (TextPart(text),)
    return head + tuple(_to_part(part) for part in parts)


def _to_part(part: InputPart) -> Part:
    match part:
        case TextInput():
            return TextPart(part.text)
        case FileReferenceInput():
            return FileReferencePart(part.file_name, part.start_line, part.end_line, part.content)
        case FileInput():
            return FilePart("application/octet-stream", file_id=part.file_id)


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class CreateChatBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Start a chat; with `text` or `parts` its first turn starts as well."""

    model: ModelRef | None = None
    title: Title = ""
    system_prompt: Prompt = ""
    text: Text | None = None
    parts: Annotated[tuple[InputPart, ...], msgspec.Meta(max_length=100)] = ()
    client_key: ClientKey | None = None
    client_tools: Annotated[tuple[ClientTool, ...], msgspec.Meta(max_length=MAX_CLIENT_TOOLS)] = ()
    """Tools that the client runs itself; names are unique and not those of the server's tools."""
    effort: Effort | None = None
    """How hard the model thinks; left out, as an admin has set it for the model. An admin may also
    have set a limit, above which nothing else happens than at it."""
    mcp_server_ids: Chosen | None = None
    """MCP servers whose tools it gets; null is those that are on by default."""
    plan_mode: bool = False
    """Only tools that change nothing, until a person has approved a plan."""
    limits: TurnLimits | None = None
    """What one turn may use before it pauses for a person."""
    response_schema: JsonObject | None = None
    """JSON Schema of the final answer of each turn."""


class UpdateChatBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are."""

    title: Title | None = None
    model: ModelRef | None = None
    system_prompt: Prompt | None = None
    effort: Effort | UnsetType | None = UNSET
    """Null goes back to the model's own setting."""
    mcp_server_ids: Chosen | UnsetType | None = UNSET
    """From the next turn on; null goes back to those that are on by default."""
    plan_mode: bool | None = None
    response_schema: JsonObject | None = None
    """JSON Schema of the final answer; empty takes it away."""


class SendMessageBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Either `text` or `parts`."""

    text: Text | None = None
    parts: Annotated[tuple[InputPart, ...], msgspec.Meta(max_length=100)] = ()
    busy_behavior: BusyBehavior = "queue"
    model: ModelRef | None = None
    client_key: ClientKey | None = None
    effort: Effort | None = None
    """Changes the chat's effort from this message on, as `model` does its model."""
    response_schema: JsonObject | None = None
    """JSON Schema of the answer of this message's turn, in place of the chat's; empty is none."""


class EditMessageBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Either `text` or `parts`."""

    text: Text | None = None
    parts: Annotated[tuple[InputPart, ...], msgspec.Meta(max_length=100)] = ()
    model: ModelRef | None = None
    effort: Effort | None = None
    response_schema: JsonObject | None = None
    """As of a new message: left out, it is the chat's."""


class ImportMessageBody(_Body, frozen=True, forbid_unknown_fields=True):
    """One stored message of another system."""

    role: Role
    content: Any
    """As it was stored, in the form that `content_version` says."""
    content_version: Annotated[int, msgspec.Meta(ge=0, le=CONTENT_VERSION)] = LEGACY_VERSION
    created_at: datetime | None = None
    model: Annotated[str, msgspec.Meta(max_length=264)] | None = None


class ImportChatBody(_Body, frozen=True, forbid_unknown_fields=True):
    """A chat of another system; with a `client_key`, sending it again changes nothing."""

    messages: Annotated[
        tuple[ImportMessageBody, ...], msgspec.Meta(min_length=1, max_length=10_000)
    ]
    title: Title = ""
    system_prompt: Prompt = ""
    model: ModelRef | None = None
    client_key: ClientKey | None = None
    created_at: datetime | None = None
    staged: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    """How many messages were brought before under the same `client_key`; `messages` follow them."""


class StageImportBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Some messages of a chat that is too large for one request."""

    client_key: ClientKey
    first: Annotated[int, msgspec.Meta(ge=0, le=9_999)]
    """The number of the first of them in the chat. The same number again replaces them."""
    messages: Annotated[
        tuple[ImportMessageBody, ...], msgspec.Meta(min_length=1, max_length=10_000)
    ]


class EditQueuedBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Either `text` or `parts`."""

    text: Text | None = None
    parts: Annotated[tuple[InputPart, ...], msgspec.Meta(max_length=100)] = ()
    response_schema: JsonObject | UnsetType | None = UNSET
    """As of a new message; left out, it stays as it is, and null is the chat's."""


class ReorderQueueBody(_Body, frozen=True, forbid_unknown_fields=True):
    """The ids of all queued messages, in their new order."""

    queued_ids: Annotated[tuple[QueuedId, ...], msgspec.Meta(max_length=MAX_QUEUED)]


class ToolResultInput(_Body, frozen=True, forbid_unknown_fields=True):
    """What a client-side tool answered: `text`, or any JSON value as `json`."""

    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] | None = None
    json: Any = None
    is_error: bool = False


class ApprovalBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person's decision about a tool call."""

    approved: bool
    scope: Scope = "once"
    """`chat` and `always` let the same tool run without asking again."""
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    """Told to the model when the call is refused."""


class RuleInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule from a client: a typing error must not make it fit more than was meant."""

    decision: Decision
    tool: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "*"
    arguments: dict[str, Glob] = {}
    when: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class PolicyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules about tool calls, in the order in which they are looked at."""

    rules: Annotated[tuple[RuleInput, ...], msgspec.Meta(max_length=200)]
    version: int | None = None
    """What you have read; the change is refused when somebody else was faster."""


class DryRunBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A draft of the rules of one level."""

    rules: Annotated[tuple[RuleInput, ...], msgspec.Meta(max_length=200)]
    """In place of those that the level has."""
    level: Level = "chat"


class GrantList(msgspec.Struct, frozen=True):
    """Newest first."""

    grants: tuple[Grant, ...]
    has_more: bool


class AuditList(msgspec.Struct, frozen=True):
    """Newest first."""

    entries: tuple[AuditEntry, ...]
    has_more: bool


class ToolResultsBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Results of all pending calls."""

    results: Annotated[tuple[ToolResultInput, ...], msgspec.Meta(min_length=1, max_length=100)]


class MarkReadBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Up to which message; without one, all of them."""

    message_id: Annotated[int, msgspec.Meta(ge=1)] | None = None


class PinBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Where the pin goes: 1 is first, beyond the end is last."""

    position: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1


class LabelsBody(_Body, frozen=True, forbid_unknown_fields=True):
    """All labels of the chat; those that are left out are removed."""

    labels: dict[str, str]


class ForkBody(_Body, frozen=True, forbid_unknown_fields=True):
    """The last message that the new chat shares."""

    message_id: Annotated[int, msgspec.Meta(ge=1)]
    title: Title = ""
    """Empty keeps the title."""


class PutProviderBody(_Body, frozen=True, forbid_unknown_fields=True):
    """A provider; its key and the values of its headers are stored encrypted and never shown."""

    type: ProviderType
    display_name: Name | None = None
    base_url: BaseUrl | None = None
    api_key: ApiKey | None = None
    """Left out keeps the stored one. For Bedrock one of its own keys or the JSON object
    `{"access_key_id": …, "secret_access_key": …, "session_token": …}`; for Vertex AI an API key or
    the JSON of a service account."""
    headers: Headers | None = None
    """Extra headers of every request; left out keeps the stored ones."""
    enabled: bool = True
    version: EntryVersion | None = None
    """Refuse the change with a conflict if the provider is no longer at this version."""
    region: Region | None = None
    """Where a cloud serves the models: needed for Bedrock and Vertex AI."""
    project: Project | None = None
    """The project on Vertex AI; left out, the one that the service account belongs to."""


class PatchProviderBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are."""

    type: ProviderType | UnsetType = UNSET
    display_name: Name | UnsetType = UNSET
    base_url: BaseUrl | UnsetType | None = UNSET
    api_key: ApiKey | UnsetType | None = UNSET
    """Null removes the stored key."""
    headers: dict[str, str | None] | UnsetType = UNSET
    """Added to the stored ones; null removes one."""
    enabled: bool | UnsetType = UNSET
    version: EntryVersion | None = None
    region: Region | UnsetType | None = UNSET
    project: Project | UnsetType | None = UNSET


class CreateMcpServerBody(McpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An MCP server; its secrets are stored encrypted and never shown."""

    shared: bool = False
    """For everybody, not for you alone. Admins only."""


class ChangeMcpServerBody(McpChanges, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields that are left out stay as they are; null removes a secret."""

    version: EntryVersion | None = None
    """Refuse the change with a conflict if the server is no longer at this version."""


class McpServers(msgspec.Struct, frozen=True, omit_defaults=True):
    """Those of the deployment first, then by slug."""

    servers: tuple[McpServer, ...]


class McpLoginBegun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sign-in at an MCP server was begun."""

    url: str
    """Where the person has to go, within ten minutes."""


class FinishMcpLoginBody(_Body, frozen=True, forbid_unknown_fields=True):
    """What the address of the page holds to which the person came back."""

    state: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    code: Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
    iss: Annotated[str, msgspec.Meta(max_length=2_000)] | None = None


class ChatTools(msgspec.Struct, frozen=True, omit_defaults=True):
    """What models may call in one chat."""

    tools: tuple[ToolSpec, ...]
    warnings: tuple[str, ...] = ()
    """Which of its tools are missing, and why."""


class PutModelBody(_Body, frozen=True, forbid_unknown_fields=True):
    """A model of a provider."""

    provider_id: Slug
    model_id: ModelId
    display_name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    context_limit: ContextLimit | None = None
    max_output_tokens: OutputLimit = 32_000
    enabled: bool = True
    tools: bool = True
    """Offer tools to it. Turn it off for models that only stumble over them."""
    make_default: bool = False
    settings: JsonObject = {}
    """`ModelSettings`, checked against the provider's type; known prices are filled in."""
    version: EntryVersion | None = None
    """Refuse the change with a conflict if the model is no longer at this version."""


class PatchModelBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are."""

    display_name: Name | UnsetType = UNSET
    context_limit: ContextLimit | UnsetType | None = UNSET
    max_output_tokens: OutputLimit | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    tools: bool | UnsetType = UNSET
    make_default: bool = False
    settings: JsonObject = {}
    """A merge patch (RFC 7396): null takes a setting back, objects are merged."""
    version: EntryVersion | None = None


class CreateUserBody(_Body, frozen=True, forbid_unknown_fields=True):
    """A person who shall get in."""

    name: UserName
    role: UserRole = "member"


class PatchUserBody(_Body, frozen=True, forbid_unknown_fields=True):
    """Fields that are left out stay as they are."""

    role: UserRole | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    """The person's tokens and links stop working; the chats stay."""


class Users(msgspec.Struct, frozen=True):
    """Everybody, by name."""

    users: tuple[Account, ...]


class PluginSettingsBody(_Body, frozen=True, forbid_unknown_fields=True):
    """All stored settings of a plugin. What is secret is not among them."""

    settings: JsonObject


class SecretBody(_Body, frozen=True, forbid_unknown_fields=True):
    """A secret; never shown again."""

    value: SecretValue


class ChatList(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of chats; `next_cursor` is absent on the last one."""

    chats: tuple[Chat, ...]
    next_cursor: str | None = None


class MessageList(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of messages, oldest first."""

    messages: tuple[Message, ...]
    has_more: bool = False


class Files(msgspec.Struct, frozen=True):
    """The files of a chat, the newest first."""

    files: tuple[StoredFile, ...]


class Models(msgspec.Struct, frozen=True):
    """All models; `availability` says which can be used."""

    models: tuple[Model, ...]


class Providers(msgspec.Struct, frozen=True):
    """All providers."""

    providers: tuple[Provider, ...]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `code` is stable; `field` names what was not acceptable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str | None = None
    details: dict[str, object] = {}


class Me(msgspec.Struct, frozen=True):
    """Who the token belongs to."""

    id: str
    name: str
    role: str


class Version(msgspec.Struct, frozen=True):
    """What runs here."""

    version: str
    default_model: ModelName | None = None
