"""HTML to Markdown, as the program of its own does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steersman_contracts.addresses import Refused
from steersman_contracts.parts import JsonPart, TextPart
from steersman_plugin_web import convert, reading
from steersman_plugin_web.convert import HTML_MAX, html_to_markdown
from steersman_plugin_web.fetch import SHOWN_BYTES, Fetched, WebFetch, show
from steersman_plugin_web.getting import Page
from steersman_plugin_web.reading import Text, is_readable, read_page

BASE = "https://e.org/a/b"


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<h2>Two</h2><p>A <b>b</b> <em>c</em> <code>d</code></p>", "## Two\n\nA **b** *c* `d`"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<pre><code>def f():\n    pass</code></pre>", "```\ndef f():\n    pass\n```"),
        (
            "<table><tr><th>a<th>b</tr><tr><td>1<td>2</tr></table>",
            "| a | b |\n| --- | --- |\n| 1 | 2 |",
        ),
        (
            "<a href=c>rel</a> <a href='/d'>root</a>",
            "[rel](https://e.org/a/c) [root](https://e.org/d)",
        ),
        ("<base href='https://x.org/'><a href=c>rel</a>", "[rel](https://x.org/c)"),
        (
            "<a href='javascript:x()'>js</a> <a href='http://[bad'>bad</a> <a>none</a>",
            "js bad none",
        ),
        ("<img src=x alt='a  cat'><img src=y>", "[image: a cat]"),
        ("<nav>menu</nav><script>x</script><style>y</style><p>text<footer>f</footer>", "text"),
        (
            "<form><p>A page that is a form<input value=x><button>go</button></form>",
            "A page that is a form",
        ),
        ("<p>side</p><main><p>" + "main " * 50 + "</p></main>", ("main " * 50).strip()),
        ("<p>around</p><main>shell</main>", "around\n\nshell"),
        ("<p>a</p>\n\n\n<div></div><div></div><p>b</p>", "a\n\nb"),
        ("<!-- hidden --><p>shown</p><p aria-hidden=true>not</p>", "shown"),
        ("<p>unclosed <b>bold", "unclosed **bold**"),
        ("", ""),
    ],
)
def test_what_people_read_becomes_markdown(html: str, markdown: str) -> None:
    assert html_to_markdown(html, BASE)["text"] == markdown


def test_the_title_and_a_cut_are_told() -> None:
    told = html_to_markdown("<title> A\n B </title><p>x" + "y" * HTML_MAX, BASE)
    assert told["title"] == "A B"
    assert told["cut"]


async def test_a_page_that_is_nested_without_reason_is_still_read() -> None:
    html = "<div>" * 5_000 + "deep" + "</div>" * 5_000
    page = Page(BASE, 200, "text/html", None, html.encode(), cut=False)
    assert await read_page(page) == Text("deep")


async def test_a_conversion_that_takes_for_ever_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "CONVERT_S", 0.001)
    page = Page(BASE, 200, "text/html", None, b"<p>x", cut=False)
    with pytest.raises(Refused, match="could not be converted within"):
        await read_page(page)


def test_the_program_is_held_to_its_memory() -> None:
    # In a process of its own, like the real one: the limits last.
    code = "import convert, sys; convert.pdf_to_text = lambda _: bytearray(2**31); convert.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "pdf"],
        cwd=Path(convert.__file__).parent,
        input=b"",
        capture_output=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 1
    assert b"MemoryError" in done.stderr


async def test_a_binary_without_a_type_is_refused() -> None:
    with pytest.raises(Refused, match="is binary"):
        await read_page(Page(BASE, 200, "", None, b"\0\1", cut=False))


@pytest.mark.parametrize(
    ("media_type", "readable"),
    [
        ("text/html", True),
        ("text/csv", True),
        ("application/ld+json", True),
        ("application/xml", True),
        ("", True),
        ("image/svg+xml", False),
        ("video/mp4", False),
        ("application/msword", False),
        ("multipart/x-mixed-replace", False),
    ],
)
def test_a_media_type_is_read_or_it_is_not(media_type: str, readable: bool) -> None:
    assert is_readable(media_type) is readable


def test_a_piece_is_cut_between_characters_and_says_where_to_go_on() -> None:
    fetched = Fetched(BASE, "text/plain", Text("海" * 60_000))
    facts, shown, _ = show(fetched, WebFetch(BASE, offset=7, limit=60_000)).content
    assert isinstance(facts, JsonPart)
    assert isinstance(shown, TextPart)
    assert facts.value["next_offset"] == 7 + SHOWN_BYTES // 3
    assert shown.text.count("海") == SHOWN_BYTES // 3
