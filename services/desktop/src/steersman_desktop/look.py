"""How a desktop looks: a quiet taskbar with a browser and a terminal, and no key of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from steersman_desktop.programs import BROWSERS, TERMINALS, first_of

# A screen that changes by itself is never still, and never the same twice.
_PREFERENCES: Final = """\
TaskBarShowClock=0
TaskBarShowCPUStatus=0
TaskBarShowMEMStatus=0
TaskBarShowNetStatus=0
TaskBarShowAPMStatus=0
TaskBarShowMailboxStatus=0
TaskBarShowWorkspaces=0
TaskBarFullscreenAutoShow=0
ShowWorkspaceStatus=0
ShowLogoutMenu=0
ShowSettingsMenu=0
ShowHelp=0
ClientWindowMouseActions=0
Win95Keys=0
DoubleBuffer=1
"""

BACKGROUND: Final = 0x304860
"""Of an empty desktop. A black one looks as if nothing were there."""

BROWSER_FLAGS: Final = (
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--password-store=basic",
    "--disable-dev-shm-usage",
)


def browser_command(*, sandbox: bool) -> list[str] | None:
    """The browser with its flags; None if there is none."""
    program = first_of(BROWSERS)
    if program is None:
        return None
    return [program, *BROWSER_FLAGS, *(() if sandbox else ("--no-sandbox",))]


def files(home: Path, *, sandbox: bool) -> Mapping[Path, str]:
    """The files of icewm in a home directory."""
    entries: list[str] = []
    browser = browser_command(sandbox=sandbox)
    terminal = first_of(TERMINALS)
    if browser is not None:
        entries.append(f'prog "Web browser" - {" ".join(browser)}')
    if terminal is not None:
        entries.append(f'prog "Terminal" - {terminal} -fa Monospace -fs 11')
    shown = "".join(f"{entry}\n" for entry in entries)
    folder = home / ".icewm"
    return {
        folder / "preferences": _PREFERENCES,
        folder / "toolbar": shown,
        folder / "menu": shown,
        folder / "keys": "",
        folder / "winoptions": "",
    }
