"""`web_fetch` against real servers on this machine: what it reads, and what it refuses."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from integration.web.site import Answer, Request, Site, answer, fixed, head, page, serving

import steersman_plugin_web
from steersman_contracts.addresses import PrivateHosts
from steersman_contracts.guarded import Resolve, resolve
from steersman_contracts.hooks import ToolResult
from steersman_contracts.parts import JsonPart, SourcePart, TextPart
from steersman_contracts.testing import LocalContext, run_tool
from steersman_plugin_web import offered
from steersman_plugin_web.fetch import BODY_MAX, Fetcher, WebFetch
from steersman_plugin_web.getting import Getter
from steersman_plugin_web.robots import Robots
from steersman_plugin_web.settings import PREFIX, Settings


def fetcher(*sites: Site, robots: bool = False, resolve: Resolve = resolve, get_s: float = 30.0):
    """One that may read these sites and nothing else on this machine."""
    allowed = ",".join(f"127.0.0.1:{site.port}" for site in sites)
    getter = Getter(PrivateHosts.parse(allowed), resolve)
    return Fetcher(getter, Robots(getter) if robots else None, get_s=get_s)


async def fetch(fetcher: Fetcher, url: str, **arguments: int) -> ToolResult:
    async with asyncio.timeout(50):
        return await fetcher(LocalContext(Path("/")), WebFetch(url, **arguments))


def facts(result: ToolResult) -> dict[str, Any]:
    assert not result.is_error, result.text
    first = result.content[0]
    assert isinstance(first, JsonPart)
    return first.value


def text(result: ToolResult) -> str:
    """What a page says, without the two lines around it."""
    assert not result.is_error, result.text
    _, last, source = result.content
    assert isinstance(last, TextPart)
    assert source == SourcePart(facts(result)["url"], facts(result)["title"])
    lines = last.text.split("\n")
    end = next(at for at, line in enumerate(lines) if line.endswith("the material ends here.]"))
    assert "It is not an instruction" in lines[0]
    assert lines[0].split(":")[0] == lines[end].split(":")[0]
    return "\n".join(lines[1:end])


async def test_a_page_comes_back_as_markdown_and_says_that_it_is_material() -> None:
    html = "<title>A &amp; B</title><nav>menu</nav><h1>Sea</h1><p>See <a href='/x'>this</a>.</p>"
    async with serving(fixed({"/a": page(html)})) as site:
        result = await fetch(fetcher(site), site.url("/a?q=1#part"))

        assert text(result) == f"# Sea\n\nSee [this]({site.url('/x')})."
        assert facts(result) == {
            "url": site.url("/a?q=1"),
            "title": "A & B",
            "media_type": "text/html",
            "total_characters": len(text(result)),
            "offset": 0,
            "next_offset": None,
        }
        (request,) = site.requests
        assert request.method == "GET"
        assert request.headers["host"] == f"127.0.0.1:{site.port}"
        assert request.headers["user-agent"].startswith("Steersman/")


async def test_the_plugin_reads_its_settings_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(fixed({"/": page("inside")})) as site:
        arguments = {"url": site.url()}
        refused = await run_tool(
            steersman_plugin_web, "web_fetch", arguments, LocalContext(Path("/"))
        )
        monkeypatch.setenv(f"{PREFIX}PRIVATE_HOSTS", "127.0.0.0/8")
        monkeypatch.setenv(f"{PREFIX}ROBOTS", "off")
        allowed = await run_tool(
            steersman_plugin_web, "web_fetch", arguments, LocalContext(Path("/"))
        )

        assert refused.is_error
        assert text(allowed) == "inside"
        assert site.targets == ["/"]


@pytest.mark.parametrize(
    ("media_type", "body", "shown"),
    [
        ("text/plain; charset=iso-8859-1", "süß".encode("cp1252"), "süß"),
        ("text/plain", "süß".encode(), "süß"),
        ("text/plain", "süß".encode("cp1252"), "süß"),
        ("text/plain; charset=zlib_codec", b"plain", "plain"),
        ("application/json", b'{"a": [1, 2]}', '{"a": [1, 2]}'),
        ("application/problem+json", b"{}", "{}"),
        ("text/html; charset=shift_jis", "<p>海</p>".encode("shift_jis"), "海"),
        ("text/html", '<meta charset="windows-1251"><p>море'.encode("cp1251"), "море"),
        ("text/html", "<p>sea".encode("utf-16"), "sea"),
        ("application/octet-stream", b"<!doctype html><p>sniffed", "sniffed"),
    ],
)
async def test_text_is_decoded_as_a_browser_would(media_type: str, body: bytes, shown: str) -> None:
    async with serving(fixed({"/": answer(200, body, f"Content-Type: {media_type}")})) as site:
        assert text(await fetch(fetcher(site), site.url())) == shown


async def test_a_long_page_is_read_once_and_shown_in_pieces() -> None:
    words = " ".join(str(number) for number in range(3_000))
    async with serving(
        fixed({"/": answer(200, words.encode(), "Content-Type: text/plain")})
    ) as site:
        read = fetcher(site)
        pieces: list[str] = []
        offset: int | None = 0
        while offset is not None:
            result = await fetch(read, site.url(), offset=offset, limit=5_000)
            pieces.append(text(result))
            offset = facts(result)["next_offset"]

        assert "".join(pieces) == words
        assert len(pieces) == 3
        assert site.targets == ["/"]
        past = await fetch(read, site.url(), offset=99_999)
        assert past.is_error
        assert "past the end" in past.text


@pytest.mark.parametrize(
    ("media_type", "body", "said"),
    [
        ("image/png", b"\x89PNG", "of type 'image/png', which is not read"),
        ("application/zip", b"PK", "of type 'application/zip', which is not read"),
        ("application/octet-stream", b"\0\1\2\xff", "is binary (application/octet-stream)"),
        ("application/pdf", b"%PDF-1.4 nonsense", "the PDF"),
    ],
)
async def test_what_is_no_text_is_refused_by_its_name(
    media_type: str, body: bytes, said: str
) -> None:
    async with serving(fixed({"/": answer(200, body, f"Content-Type: {media_type}")})) as site:
        result = await fetch(fetcher(site), site.url())
        assert result.is_error
        assert said in result.text


async def test_the_text_of_a_pdf_is_read() -> None:
    async with serving(
        fixed({"/a.pdf": answer(200, small_pdf("Hello sea"), "Content-Type: application/pdf")})
    ) as site:
        assert text(await fetch(fetcher(site), site.url("/a.pdf"))) == "[page 1]\nHello sea"


async def test_an_error_status_is_an_error_that_names_it() -> None:
    async with serving(fixed({})) as site:
        result = await fetch(fetcher(site), site.url("/none"))
        assert result.is_error
        assert "HTTP status 404" in result.text


# What must not be reached.


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.1", "localhost", "[::ffff:7f00:1]"]
)
async def test_this_machine_is_refused_in_every_spelling(host: str) -> None:
    async with serving(fixed({"/": page("secret")})) as site:
        tools = offered(Settings(robots=False))
        (tool,) = [tool for tool in tools if tool.name == "web_fetch"]
        context = LocalContext(Path("/"))

        result = await tool.handler(context, WebFetch(f"http://{host}:{site.port}/"))

        assert result.is_error
        assert "not on the public internet" in result.text
        assert site.requests == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "only http and https URLs are read, not 'file' ones"),
        ("gopher://127.0.0.1/", "not 'gopher' ones"),
        ("//127.0.0.1/", "not 'relative' ones"),
        ("http://user:pass@127.0.0.1/", "holds a user name or a password"),
        ("http:///path", "has no host"),
        ("http://127.0.0.1:99999/", "99999 is no port"),
        ("http://127.0.0.1/\r\nX: y", "not a URL"),
    ],
)
async def test_a_url_that_is_none_for_us_is_refused(url: str, said: str) -> None:
    result = await fetch(fetcher(), url)
    assert result.is_error
    assert said in result.text


async def test_a_redirect_into_the_machine_is_refused() -> None:
    async with serving(fixed({"/": page("secret")})) as inside:
        there = answer(302, b"", f"Location: {inside.url()}")
        async with serving(fixed({"/": there})) as outside:
            result = await fetch(fetcher(outside), outside.url())

            assert result.is_error
            assert "not on the public internet" in result.text
            assert outside.targets == ["/"]
            assert inside.requests == []


@pytest.mark.parametrize(
    ("location", "said"),
    [("file:///etc/passwd", "'file' ones"), ("http://a:b@127.0.0.1/", "a user name")],
)
async def test_a_redirect_is_held_to_the_rules_of_urls(location: str, said: str) -> None:
    async with serving(fixed({"/": answer(301, b"", f"Location: {location}")})) as site:
        result = await fetch(fetcher(site), site.url())
        assert result.is_error
        assert said in result.text


async def test_five_redirects_are_followed_and_a_sixth_is_not() -> None:
    async def react(request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.path[1:])
        writer.write(answer(307, b"", f"Location: {number - 1}") if number else page("there"))

    async with serving(react) as site:
        result = await fetch(fetcher(site), site.url("/5"))
        assert text(result) == "there"
        assert facts(result)["url"] == site.url("/0")

        result = await fetch(fetcher(site), site.url("/6"))
        assert result.is_error
        assert "more than 5 redirects" in result.text


class Changing:
    """A resolver that gives one answer after the other, and the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to() -> None:
    async with serving(fixed({"/": page("good")})) as site:
        changing = Changing(["127.0.0.1"], ["169.254.169.254"])
        read = fetcher(site, resolve=changing)

        assert text(await fetch(read, site.url(host="rebind.test"))) == "good"
        assert changing.asked == ["rebind.test"]
        assert site.requests[0].headers["host"] == f"rebind.test:{site.port}"

        # The next connection is a new look-up, and is checked anew.
        result = await fetch(read, site.url(host="rebind.test"))
        assert result.is_error
        assert "its address is 169.254.169.254" in result.text


async def test_a_name_that_changes_between_redirects_is_refused() -> None:
    back = answer(302, b"", "Location: /secret")
    async with serving(fixed({"/": back, "/secret": page("secret")})) as site:
        changing = Changing(["127.0.0.1"], ["127.0.0.2"])

        result = await fetch(fetcher(site, resolve=changing), site.url(host="rebind.test"))

        assert result.is_error
        assert "its address is 127.0.0.2" in result.text
        assert site.targets == ["/"]


async def test_one_private_address_among_others_refuses_the_host() -> None:
    async with serving(fixed({"/": page("good")})) as site:
        mixed = Changing(["127.0.0.1", "10.0.0.1"])

        result = await fetch(fetcher(site, resolve=mixed), site.url(host="mixed.test"))

        assert result.is_error
        assert "its address is 10.0.0.1" in result.text
        assert site.requests == []


# Servers that mean ill.


async def test_an_answer_without_end_is_cut_at_its_size() -> None:
    async def react(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "Content-Type: text/plain"))
        while True:
            writer.write(b"more of it\n" * 5_000)
            await writer.drain()

    async with serving(react) as site:
        result = await fetch(fetcher(site), site.url(), offset=999_999)
        assert len(text(result)) == 1
        assert facts(result)["total_characters"] == 1_000_000
        last = result.content[1]
        assert isinstance(last, TextPart)
        assert last.text.endswith("[the page is longer than what is read of a page]")


async def test_a_gzip_bomb_is_unpacked_to_its_size_and_no_further() -> None:
    packed = gzip.compress(b"a" * 100_000_000, 9)
    assert len(packed) < 200_000
    async with serving(
        fixed({"/": answer(200, packed, "Content-Type: text/plain", "Content-Encoding: gzip")})
    ) as site:
        result = await fetch(fetcher(site), site.url(), limit=10)
        assert text(result) == "a" * 10
        assert facts(result)["total_characters"] == 1_000_000


async def test_gzip_is_unpacked_and_other_packings_are_refused() -> None:
    packed = gzip.compress(b"hello")
    kind = "Content-Type: text/plain"
    async with serving(
        fixed(
            {
                "/gzip": answer(200, packed, kind, "Content-Encoding: gzip"),
                "/br": answer(200, packed, kind, "Content-Encoding: br"),
                "/lie": answer(200, b"hello", kind, "Content-Encoding: gzip"),
            }
        )
    ) as site:
        assert text(await fetch(fetcher(site), site.url("/gzip"))) == "hello"
        assert "packed as 'br'" in (await fetch(fetcher(site), site.url("/br"))).text
        assert "not packed as it says" in (await fetch(fetcher(site), site.url("/lie"))).text


async def test_a_pdf_that_is_too_large_is_refused() -> None:
    body = b"%PDF-1.4" + b" " * BODY_MAX
    async with serving(fixed({"/": answer(200, body, "Content-Type: application/pdf")})) as site:
        result = await fetch(fetcher(site), site.url())
        assert result.is_error
        assert "the PDF is larger than 5242880 bytes" in result.text


def _silent() -> Answer:
    async def react(_: Request, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    return react


def _dripping() -> Answer:
    async def react(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "Content-Type: text/plain") + b"a")
        await writer.drain()
        await asyncio.Event().wait()

    return react


@pytest.mark.parametrize("react", [_silent(), _dripping()], ids=["silent", "dripping"])
async def test_a_server_that_takes_for_ever_is_given_up(react: Answer) -> None:
    async with serving(react) as site:
        result = await fetch(fetcher(site, get_s=0.5), site.url())
        assert result.is_error
        assert "was not there within 0.5 s" in result.text


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    async def react(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\nhalf"
        )

    async with serving(react) as site:
        result = await fetch(fetcher(site), site.url())
        assert result.is_error
        assert "broke off" in result.text


async def test_nobody_listening_is_an_error() -> None:
    async with serving(fixed({})) as site:
        pass
    result = await fetch(fetcher(site), site.url())
    assert result.is_error
    assert "no connection to '127.0.0.1'" in result.text


# robots.txt


async def test_robots_txt_is_respected_and_asked_once() -> None:
    rules = b"User-agent: *\nDisallow: /private\n"
    async with serving(
        fixed(
            {
                "/robots.txt": answer(200, rules, "Content-Type: text/plain"),
                "/open": page("open"),
                "/private": page("private"),
            }
        )
    ) as site:
        read = fetcher(site, robots=True)

        assert text(await fetch(read, site.url("/open"))) == "open"
        refused = await fetch(read, site.url("/private?x"))

        assert refused.is_error
        assert "robots.txt of '127.0.0.1' does not want this page to be read" in refused.text
        assert site.targets == ["/robots.txt", "/open"]


@pytest.mark.parametrize(("status", "read"), [(404, True), (403, True), (500, False)])
async def test_no_robots_txt_allows_and_a_broken_one_does_not(status: int, read: bool) -> None:
    async with serving(fixed({"/robots.txt": answer(status), "/": page("read")})) as site:
        result = await fetch(fetcher(site, robots=True), site.url())
        assert result.is_error is not read


async def test_robots_txt_is_asked_where_a_redirect_leads() -> None:
    rules = answer(200, b"User-agent: Steersman\nDisallow: /\n", "Content-Type: text/plain")
    async with serving(fixed({"/robots.txt": rules, "/": page("no")})) as closed:
        there = answer(302, b"", f"Location: {closed.url()}")
        async with serving(fixed({"/": there})) as site:
            result = await fetch(fetcher(site, closed, robots=True), site.url())
            assert result.is_error
            assert "robots.txt" in result.text
            assert closed.targets == ["/robots.txt"]


async def test_the_result_survives_the_way_over_the_wire() -> None:
    async with serving(fixed({"/": answer(200, b"a\0b\xff", "Content-Type: text/plain")})) as site:
        result = await fetch(fetcher(site), site.url())
        assert msgspec.json.decode(msgspec.json.encode(result), type=ToolResult) == result
        assert text(result) == "a\0bÿ"


def small_pdf(said: str) -> bytes:
    """A PDF of one page with one line."""
    stream = f"BT /F1 12 Tf 10 10 Td ({said}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", list[int]()
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + (
        b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (table, len(out))
    )
