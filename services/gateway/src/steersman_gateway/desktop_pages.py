"""Two pages about the desktop of a chat: as it is now, and as it was.

They are for whoever is signed in and may see the chat, hold nothing of it themselves, and load
nothing but what this API gives. A link to one can be kept.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from litestar import Controller, Response, get
from litestar.di import Provide

from steersman_contracts.rpc.desktop_recordings import READ_TIMELINE, ReadTimeline
from steersman_gateway.chat_desktop import DesktopOfChat, provide_desktop
from steersman_gateway.pages import page
from steersman_gateway.recordings import RecordingIdText, known_recording


def _script(name: str) -> str:
    return (resources.files("steersman_gateway") / "scripts" / name).read_text(encoding="utf-8")


_WIDE: Final = """
body { max-width: 90rem; padding: 1rem; }
canvas, img { background: #1e3044; display: block; height: auto; max-width: 100%; }
#stage { position: relative; }
#stage:focus-within #screen { outline: 2px solid #1f6feb; }
#screen { touch-action: none; }
#pointer { background: none; left: 0; max-width: none; pointer-events: none; position: absolute;
  top: 0; }
#keys { border: 0; height: 1px; left: 0; opacity: 0; padding: 0; pointer-events: none;
  position: absolute; resize: none; top: 0; width: 1px; }
#clip { box-sizing: border-box; display: block; font: .9em ui-monospace, monospace;
  margin: .4rem 0; width: 100%; }
.bar { align-items: center; display: flex; flex-wrap: wrap; gap: .8rem; margin: .6rem 0; }
.bar input { flex: 1; }
.bar button { padding: .3rem 1rem; }
[hidden] { display: none; }
ol { border-top: 1px solid var(--line); list-style: none; max-height: 16rem; overflow-y: auto;
  padding: 0; }
li button { background: none; border-radius: 0; color: inherit; font: .85em ui-monospace, monospace;
  overflow-wrap: anywhere; padding: .2rem .4rem; text-align: left; width: 100%; }
li.now { background: var(--line); }
"""
_VIEWER: Final = """<h1>Desktop</h1>
<p id="about" class="dim" role="status">Connecting …</p>
<div class="bar"><button id="take" hidden>Take control</button>
<button id="private" hidden>Take control in private</button>
<button id="back" hidden>Give control back</button>
<select id="size" aria-label="Size of the screen" hidden><option value="">Size &hellip;</option>
<option value="1280x800">1280 &times; 800</option>
<option value="1920x1080">1920 &times; 1080</option>
<option value="2560x1440">2560 &times; 1440</option>
<option value="3840x2160">3840 &times; 2160</option><option value="window">This window</option>
</select>
<button id="again" hidden>Connect again</button></div>
<div id="stage">
<canvas id="screen" tabindex="0" width="1" height="1" aria-label="The screen"></canvas>
<canvas id="pointer" width="1" height="1" hidden></canvas>
<textarea id="keys" tabindex="-1" autocapitalize="off" autocomplete="off" spellcheck="false"
 aria-label="Keyboard of the desktop"></textarea></div>
<details id="clipboard"><summary>Clipboard</summary>
<textarea id="clip" rows="4" aria-label="What was last copied on the desktop"></textarea>
<button id="give" hidden>Put it into the clipboard of the desktop</button></details>
<noscript><p>This page needs JavaScript.</p></noscript>"""
_PLAYER: Final = """<h1>Recording of a desktop</h1>
<p id="about" class="dim" role="status">Loading …</p>
<img id="screen" alt="The screen">
<div class="bar"><button id="play">Play</button>
<input id="seek" type="range" min="0" max="0" step="any" value="0" aria-label="Time">
<span id="clock">0:00 / 0:00</span>
<select id="speed" aria-label="Speed">
<option value="1">1&times;</option><option value="2">2&times;</option>
<option value="4">4&times;</option><option value="16">16&times;</option></select></div>
<ol id="marks"></ol>
<p><a href="download">Download</a></p>
<noscript><p>This page needs JavaScript.</p></noscript>"""


class DesktopPageController(Controller):
    """The pages."""

    path = "/chats/{chat_id:str}/desktop"
    include_in_schema = False
    dependencies = {"desktop": Provide(provide_desktop)}  # noqa: RUF012  # as Litestar reads it

    @get("/viewer")
    async def viewer(self, desktop: DesktopOfChat) -> Response[str]:
        """Watch, and take control."""
        del desktop  # was asked whether this person may
        return page("Desktop", _VIEWER, script=_script("viewer.js"), style=_WIDE)

    @get("/recordings/{recording_id:str}/player")
    async def player(self, desktop: DesktopOfChat, recording_id: RecordingIdText) -> Response[str]:
        """Play a recording, also one that still runs."""
        wanted = ReadTimeline(*desktop.ids, known_recording(recording_id))
        await desktop.call(READ_TIMELINE, wanted)  # a page about nothing would be a riddle
        script = _script("player.js")
        return page("Recording", _PLAYER, script=script, style=_WIDE, images=True)
