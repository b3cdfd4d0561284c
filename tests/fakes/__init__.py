"""The hosted model providers, as strict scripted servers for tests and benchmarks.

Usage:
    async with FakeProviders() as fakes:
        fakes.script("my-model", Script([Turn([Text("Hello")])]))
        client = AsyncAnthropic(api_key="any", base_url=fakes.base_url("anthropic"), max_retries=0)
"""

from fakes.faults import (
    Comments,
    ContentType,
    CrlfLines,
    Cut,
    Eof,
    Fault,
    Garbage,
    Hang,
    HttpError,
    HugeDelta,
    Stall,
    StreamError,
    TinyChunks,
)
from fakes.recording import Gate, Recorded
from fakes.script import (
    Answer,
    Citation,
    Item,
    Kind,
    Pause,
    Reasoning,
    Refusal,
    RequestView,
    Script,
    SearchResult,
    ServerToolSearch,
    Stop,
    Text,
    ToolCall,
    Turn,
    Usage,
    ViewedCall,
    ViewedMessage,
    ViewedResult,
    ViewedTool,
)
from fakes.server import FakeProviders

__all__ = [
    "Answer",
    "Citation",
    "Comments",
    "ContentType",
    "CrlfLines",
    "Cut",
    "Eof",
    "FakeProviders",
    "Fault",
    "Garbage",
    "Gate",
    "Hang",
    "HttpError",
    "HugeDelta",
    "Item",
    "Kind",
    "Pause",
    "Reasoning",
    "Recorded",
    "Refusal",
    "RequestView",
    "Script",
    "SearchResult",
    "ServerToolSearch",
    "Stall",
    "Stop",
    "StreamError",
    "Text",
    "TinyChunks",
    "ToolCall",
    "Turn",
    "Usage",
    "ViewedCall",
    "ViewedMessage",
    "ViewedResult",
    "ViewedTool",
]
