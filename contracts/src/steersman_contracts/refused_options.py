"""What the request types of the providers' SDKs offer and is no option here, and why.

Whatever is neither here nor sent has been added by a newer SDK, and a test says so. The reasons are
what an administrator reads who tries to set one of them, and what `docs/models.md` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_OWN_CONTEXT: Final = "the history is kept and summarised here, the same for every provider"
_OWN_MARKS: Final = "which blocks are cached is decided here, for each request"
_HEADER: Final = "a header: it belongs to the headers of the provider"
_OWN_TOOLS: Final = "which tools there are, and who may call them, is decided here"
_TEXT: Final = "answers are texts and calls of tools"
_ONE: Final = "a chat has one answer"
_MODERATION: Final = "its findings come beside the answer, where nobody would see them"
_OLD: Final = "an older name of another field, which is sent"
_OF_THE_SDK: Final = "not a field of the request: it steers the SDK, whose place is taken here"

NOT_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "anthropic": {
        "billing_policy": "it bills another organisation, which is settled with that one",
        "cache_control": _OWN_MARKS,
        "compaction": _OWN_CONTEXT,
        "container": "it belongs to one conversation",
        "context_management": _OWN_CONTEXT,
        "diagnostics": "its findings come beside the answer, where nobody would see them",
        "fallback_credit_token": "it belongs to one refusal",
        "fallbacks": "the setting `fallbacks` does it, with models of any provider",
        "mcp_servers": "MCP servers are called by the tools service, under its rules",
        "output_config.task_budget": "how much a turn may use is limited here",
        "thinking.block_binding": "what came before a block is never changed here",
        "thread": _OWN_CONTEXT,
        "user_profile_id": _HEADER,
        "web_search.allowed_callers": _OWN_TOOLS,
        "web_search.cache_control": _OWN_MARKS,
        "web_search.defer_loading": _OWN_TOOLS,
        "web_search.strict": "the search has no arguments of ours",
        "workspace_id": _HEADER,
    },
    "openai-responses": {
        "access_programs": "OpenAI finds out by itself what the organisation may use",
        "background": "an answer is streamed while it is written",
        "background_options": "an answer is streamed while it is written",
        "context_management": _OWN_CONTEXT,
        "conversation": _OWN_CONTEXT,
        "image": "images are scaled here, to what the model takes",
        "moderation": _MODERATION,
        "prompt": "prompts are put together here",
        "prompt_cache_options.comparison_response_id": "it belongs to one request",
        "prompt_cache_options.mode": "without marks of ours `explicit` would cache nothing",
        "prompt_cache_options.prewarm": "a request is made when somebody waits for its answer",
        "reasoning.generate_summary": _OLD,
        "truncation": "it drops the beginning of the conversation unseen; summaries keep it short",
    },
    "openai-chat": {
        "audio": _TEXT,
        "function_call": _OLD,
        "functions": _OLD,
        "modalities": _TEXT,
        "moderation": _MODERATION,
        "n": _ONE,
        "prompt_cache_options.mode": "without marks of ours `explicit` would cache nothing",
    },
    "google": {
        "audio_timestamp": "there is no audio in what is sent",
        "audio_transcription_config": "there is no audio in what is sent",
        "automatic_continuation": _OF_THE_SDK,
        "automatic_function_calling": _OF_THE_SDK,
        "candidate_count": _ONE,
        "continuation_token": "an answer that comes in pieces is put together here",
        "enable_enhanced_civic_answers": "a filter for one subject, which not every model has",
        "generation_output_config": "what a model makes is kept here, and in no bucket",
        "google_search.blocking_confidence": "only Vertex has it, without a wish for it so far",
        "google_search.exclude_domains": "only Vertex has it, and no list of allowed ones",
        "google_search.search_types": "pages are searched; nothing would show found images",
        "google_search.time_range_filter": "a span of time goes by: it is no lasting setting",
        "http_options": _OF_THE_SDK,
        "image_config": _TEXT,
        "logprobs": "Google sends them beside the answer, where nobody would see them",
        "model_armor_config": "what is screened is a matter of the project in the cloud",
        "model_selection_config": "the model is the one that the chat has",
        "response_logprobs": "Google sends them beside the answer, where nobody would see them",
        "response_modalities": "a model answers with what it is made for",
        "response_schema": _OLD,
        "routing_config": "the model is the one that the chat has",
        "should_return_http_response": _OF_THE_SDK,
        "speech_config": _TEXT,
        "tool_config.retrieval_config": "it is for tools of Google's that are not offered",
    },
}
"""Wire format → field of its request, nested ones with dots (`web_search` is the tool) → reason."""

_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "anthropic": ("anthropic",),
    "anthropic-bedrock": ("anthropic",),
    "anthropic-vertex": ("anthropic",),
    "openai-responses": ("openai-responses", "openai-chat"),
    "openai-chat": ("openai-chat",),
    "google": ("google",),
    "google-vertex": ("google",),
}


def why_not(provider_type: str, field: str) -> str | None:
    """Why a field of the provider's requests is no option; None for what is no field of them."""
    known = (NOT_OPTIONS[name] for name in _FORMATS.get(provider_type, ()))
    return next((reasons[field] for reasons in known if field in reasons), None)
