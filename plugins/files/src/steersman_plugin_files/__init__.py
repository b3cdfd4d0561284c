"""Tools that read, write and search the files of a workspace, and nothing outside it."""

from __future__ import annotations

from typing import Any

from steersman_contracts.hooks import Tool, hookimpl
from steersman_plugin_files.apply_patch import APPLY_PATCH, ApplyPatch, apply_patch
from steersman_plugin_files.edit import EDIT_FILES, EditFiles, edit_files
from steersman_plugin_files.globbing import GLOB, Glob, glob
from steersman_plugin_files.listing import LIST_FILES, ListFiles, list_files
from steersman_plugin_files.read import READ_FILE, ReadFile, read_file
from steersman_plugin_files.search import SEARCH_FILES, SearchFiles, search_files
from steersman_plugin_files.write import WRITE_FILE, WriteFile, write_file


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the seven tools."""
    return [
        Tool("read_file", READ_FILE, ReadFile, read_file, read_only=True, needs_workspace=True),
        Tool(
            "write_file", WRITE_FILE, WriteFile, write_file, idempotent=True, needs_workspace=True
        ),
        Tool("edit_files", EDIT_FILES, EditFiles, edit_files, needs_workspace=True),
        Tool("apply_patch", APPLY_PATCH, ApplyPatch, apply_patch, needs_workspace=True),
        Tool("list_files", LIST_FILES, ListFiles, list_files, read_only=True, needs_workspace=True),
        Tool("glob", GLOB, Glob, glob, read_only=True, needs_workspace=True),
        Tool(
            "search_files",
            SEARCH_FILES,
            SearchFiles,
            search_files,
            read_only=True,
            needs_workspace=True,
        ),
    ]
