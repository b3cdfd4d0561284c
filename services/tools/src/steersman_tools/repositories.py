"""What git says about the repositories of a workspace, without believing any of them.

A repository can name programs: hooks, filters, a file monitor, drivers for diffs, helpers that
fetch what is missing. None of them is known to git here: it is given a repository of our own, in a
directory of /tmp, with our configuration, a copy of the index, and the other's objects to read
from. All of it runs confined like a command of a model, so that not even a link among the objects
leads anywhere else.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from steersman_contracts.confinement import Refused, open_workspace
from steersman_contracts.sandbox import Sandbox
from steersman_contracts.workspace_diff import FileChange, RepositoryDiff, WorkspaceDiff
from steersman_contracts.workspaces import WorkspaceId
from steersman_tools.confined import Ended, Output, run_confined

MAX_REPOSITORIES: Final = 20
MAX_DEPTH: Final = 4
MAX_FOLDERS: Final = 20_000
STATUS_BYTES: Final = 128 << 10
NUMBERS_BYTES: Final = 128 << 10
DIFF_BYTES: Final = 256 << 10
"""Of one repository."""
TOTAL_BYTES: Final = 512 << 10
"""Of the diffs of all repositories."""
_ONE_S: Final = 20.0
_ALL_S: Final = 40.0
_NOT_ENTERED: Final = frozenset({".git", "node_modules", ".venv", "venv", "__pycache__"})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_UNREADABLE, _NO_GIT, _FAILED = 4, 6, 7
_REASONS: Final = {
    _UNREADABLE: "it is not a repository that can be read",
    _NO_GIT: "git is not installed",
    _FAILED: "git cannot read it",
}
_SCRIPT: Final = r"""
command -v git >/dev/null || exit 6
cd -- "$1" || exit 4
mark=$2
git=.git
if [ -f .git ]; then
  IFS= read -r line <.git
  case $line in "gitdir: "*) git=${line#gitdir: } ;; *) exit 4 ;; esac
fi
common=$git
if [ -f "$git/commondir" ]; then
  IFS= read -r line <"$git/commondir"
  case $line in /*) common=$line ;; *) common=$git/$line ;; esac
fi
[ -f "$git/HEAD" ] || exit 4
objects=$(cd -- "$common/objects" && pwd -P) || exit 4
shadow=$(mktemp -d) || exit 4
trap 'rm -rf -- "$shadow"' EXIT
mkdir -p "$shadow/objects/info" "$shadow/refs/heads" "$shadow/info"
printf '%s\n' "$objects" >"$shadow/objects/info/alternates"
IFS= read -r head <"$git/HEAD"
branch=
case $head in
"ref: refs/"*)
  ref=${head#ref: }
  case $ref in *..* | *//* | */.*) exit 4 ;; esac
  branch=${ref#refs/heads/}
  mkdir -p -- "$shadow/${ref%/*}"
  if [ -f "$common/$ref" ]; then cp -- "$common/$ref" "$shadow/$ref"; fi
  if [ -f "$common/packed-refs" ]; then cp -- "$common/packed-refs" "$shadow/packed-refs"; fi
  ;;
esac
printf '%s\n' "$head" >"$shadow/HEAD"
# With its time: git takes files for changed that are younger than the index.
if [ -f "$git/index" ]; then cp -p -- "$git/index" "$shadow/index"; fi
if [ -f "$common/info/exclude" ]; then cp -- "$common/info/exclude" "$shadow/info/exclude"; fi
{
  printf '[core]\n\tbare = false\n\tfsmonitor = false\n\thooksPath = /dev/null\n'
  printf '\tattributesFile = /dev/null\n\texcludesFile = /dev/null\n\tquotePath = false\n'
  printf '\tuntrackedCache = false\n'
  if grep -qsi '^[[:space:]]*objectformat[[:space:]]*=[[:space:]]*sha256' "$common/config"; then
    printf '\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n'
  else
    printf '\trepositoryformatversion = 0\n'
  fi
} >"$shadow/config"
export GIT_DIR="$shadow" GIT_WORK_TREE="$PWD" GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null \
  GIT_ATTR_NOSYSTEM=1 GIT_NO_LAZY_FETCH=1 GIT_OPTIONAL_LOCKS=0 GIT_ALLOW_PROTOCOL= \
  GIT_NO_REPLACE_OBJECTS=1 HOME=/nonexistent XDG_CONFIG_HOME=/nonexistent LC_ALL=C.UTF-8
# The other configuration that git would look for is that of a worktree, which this is none of.
base=$(git rev-parse --verify --quiet 'HEAD^{commit}') ||
  base=$(git hash-object -t tree /dev/null) || exit 7
printf '%s\0%s\0%s' "$branch" "$base" "$mark"
{
  git status --porcelain=v1 -z --ignore-submodules=all --untracked-files=all
  echo "$?" >"$shadow/code"
} | head -c "$3"
read -r code <"$shadow/code"
case $code in 0 | 141) ;; *) exit 7 ;; esac # 141: there was more than is wanted
printf '%s' "$mark"
# What is new is part of the diff; the index is our copy. By name, because `git add .` would look
# into submodules, with a git that reads their configuration.
git ls-files -z --others --exclude-standard |
  GIT_LITERAL_PATHSPECS=1 git add --intent-to-add --pathspec-from-file=- --pathspec-file-nul
set -- "$4" "$5" --no-ext-diff --no-textconv --no-color --ignore-submodules=all \
  --src-prefix=a/ --dst-prefix=b/ --no-renames --diff-algorithm=myers "$base" --
numbers=$1
most=$2
shift 2
git diff --numstat -z "$@" | head -c "$numbers"
printf '%s' "$mark"
git diff "$@" | head -c "$most"
printf '%s' "$mark"
"""


def find_repositories(root: Path) -> tuple[list[str], bool]:
    """The repositories below a directory, by path; and whether there may be more. Blocks.

    Links are not followed, whatever is exchanged meanwhile.
    """
    found: list[str] = []
    seen = 0
    try:
        with open_workspace(root) as workspace:
            waiting: deque[tuple[str, ...]] = deque([()])
            while waiting:
                names = waiting.popleft()
                seen += 1
                if seen > MAX_FOLDERS or len(found) > MAX_REPOSITORIES:
                    break
                with suppress(Refused, OSError), workspace.folder(names) as folder:
                    below, is_repository = _look(folder)
                    if is_repository:
                        found.append("/".join(names) or ".")
                    if len(names) < MAX_DEPTH:
                        waiting.extend((*names, name) for name in below)
    except Refused:
        return [], False
    more = bool(waiting) or len(found) > MAX_REPOSITORIES
    return sorted(found)[:MAX_REPOSITORIES], more


def _look(folder: int) -> tuple[list[str], bool]:
    below: list[str] = []
    is_repository = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == ".git":
                is_repository = True
            elif (
                entry.name not in _NOT_ENTERED
                and entry.is_dir(follow_symlinks=False)
                and _is_text(entry.name)
            ):
                below.append(entry.name)
    return sorted(below), is_repository


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
    return True


async def read_repository(
    root: Path, path: str, sandbox: Sandbox, *, timeout_s: float, diff_bytes: int = DIFF_BYTES
) -> RepositoryDiff:
    """What was changed in one repository.

    Args:
        root: The workspace.
        path: The repository's directory below it.
        sandbox: What confines git.
        timeout_s: Seconds after which it is given up.
        diff_bytes: Of the diff, at most.

    Raises:
        Unavailable: Nothing can be started here.
    """
    mark = f"\n--{secrets.token_hex(16)}--\n"
    sizes = (str(STATUS_BYTES), str(NUMBERS_BYTES), str(max(1, diff_bytes)))
    ended = await run_confined(
        ("/bin/sh", "-c", f"exec 2>/dev/null\n{_SCRIPT}", "sh", path, mark, *sizes),
        root,
        sandbox,
        timeout_s=timeout_s,
        output=Output(STATUS_BYTES + NUMBERS_BYTES + diff_bytes + (64 << 10), 0),
        end_when_full=True,
    )
    return read_output(path, ended, mark.encode(), diff_bytes)


def read_output(path: str, ended: Ended, mark: bytes, diff_bytes: int) -> RepositoryDiff:
    """Understand what the script has printed."""
    if ended.timed_out:
        return RepositoryDiff(path, error="git took too long")
    # Bytes after the last mark are what git said after it was cut off.
    sections = bytes(ended.output.head).split(mark)
    if len(sections) != 5:
        return RepositoryDiff(path, error=_REASONS.get(ended.code, _REASONS[_FAILED]))
    facts, status, numbers, diff, _ = sections
    counted = dict(_numbers(numbers))
    changes = tuple(
        FileChange(name, code, *counted.get(name, (None, None)), old_path=old)
        for code, name, old in _entries(status, cut=len(status) >= STATUS_BYTES)
    )
    return RepositoryDiff(
        path=path,
        branch=_text(facts.split(b"\0")[0]),
        files=len(changes),
        additions=sum(change.additions or 0 for change in changes),
        deletions=sum(change.deletions or 0 for change in changes),
        changes=changes,
        diff=_text(diff),
        truncated=len(status) >= STATUS_BYTES
        or len(numbers) >= NUMBERS_BYTES
        or len(diff) >= diff_bytes,
    )


def _entries(status: bytes, *, cut: bool) -> Iterator[tuple[str, str, str | None]]:
    """The entries of `git status --porcelain=v1 -z`: code, path, and the path before a rename."""
    fields = status.split(b"\0")
    if cut:
        fields = fields[:-1]  # the last one is only half there
    words = iter(fields)
    for word in words:
        if len(word) < 4:
            continue
        code, name = word[:2].decode(errors="replace"), _text(word[3:])
        old = _text(next(words, b"")) if code[0] in "RC" else None
        # A directory is another repository, which is looked at by itself.
        if not name.endswith("/"):
            yield code, name, old


def _numbers(numbers: bytes) -> Iterator[tuple[str, tuple[int | None, int | None]]]:
    for word in numbers.split(b"\0"):
        added, _, rest = word.partition(b"\t")
        removed, tab, name = rest.partition(b"\t")
        if tab:
            yield _text(name), (_count(added), _count(removed))


def _count(number: bytes) -> int | None:
    return int(number) if number.isdigit() else None


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


async def read_repositories(
    root: Path, workspace_id: WorkspaceId, sandbox: Sandbox, found: tuple[list[str], bool]
) -> WorkspaceDiff:
    """What was changed in each of the repositories of a workspace.

    Raises:
        Unavailable: Nothing can be started here.
    """
    paths, more = found
    until = time.monotonic() + _ALL_S
    room = TOTAL_BYTES
    repositories: list[RepositoryDiff] = []
    for path in paths:
        left = until - time.monotonic()
        if left <= 0:
            more = True
            break
        one = await read_repository(
            root,
            path,
            sandbox,
            timeout_s=min(_ONE_S, left),
            diff_bytes=min(DIFF_BYTES, max(room, 1)),
        )
        room -= len(one.diff.encode())
        repositories.append(one)
    kept = tuple(repositories)
    digest = hashlib.sha256(msgspec.json.encode((kept, more))).hexdigest()
    return WorkspaceDiff(workspace_id, digest, kept, truncated=more)
