"""What was changed in the repositories of a workspace."""

from __future__ import annotations

import msgspec


class FileChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file that is not as it was committed."""

    path: str
    status: str
    """Two letters as of `git status --porcelain`: index and files; `??` is untracked."""
    additions: int | None = None
    """Lines; None where git does not count them, such as of binary files."""
    deletions: int | None = None
    old_path: str | None = None
    """What it was called when it was renamed in the index."""


class RepositorySummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A repository, in a few numbers."""

    path: str
    """Its directory below the workspace; `.` is the workspace itself."""
    branch: str = ""
    """Empty when no branch is checked out."""
    files: int = 0
    additions: int = 0
    deletions: int = 0
    error: str = ""
    """Why nothing is known of it."""


class RepositoryDiff(RepositorySummary, frozen=True, omit_defaults=True):
    """A repository, and what was changed in it since its last commit."""

    changes: tuple[FileChange, ...] = ()
    diff: str = ""
    """Unified, against the last commit; files that git does not know yet are part of it."""
    truncated: bool = False
    """There is more than is shown."""


class WorkspaceDiff(msgspec.Struct, frozen=True, omit_defaults=True):
    """All repositories of a workspace, by path."""

    workspace_id: str
    digest: str
    """Changes whenever anything in it does."""
    repositories: tuple[RepositoryDiff, ...] = ()
    truncated: bool = False
    """There are more repositories, or there was no time to look at all."""
