"""robots.txt after RFC 9309."""

from __future__ import annotations

import pytest

from steersman_plugin_web.robots import parse_robots


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/", "/anything", True),
        ("/fish", "/fish/salmon.html", True),
        ("/fish", "/Fish", False),
        ("/fish*.php", "/fish/a.php?x", True),
        ("/*.php$", "/a.php", True),
        ("/*.php$", "/a.php?x", False),
        ("/*.php$", "/a.php/b.php", True),
        ("/fish$", "/fish", True),
        ("/fish$", "/fishes", False),
        ("*", "/", True),
        ("/a*b*c$", "/abc", True),
        ("/a*bb$", "/ab", False),
        ("/ab*b$", "/ab", False),
        ("/ä", "/%C3%A4/b", True),
        ("/a%20b?c=d", "/a%20b?c=d&e", True),
    ],
)
def test_a_pattern_fits_a_path(pattern: str, path: str, fits: bool) -> None:
    rules = parse_robots(f"User-agent: *\nDisallow: {pattern}")
    assert rules.allow(path) is not fits


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        ("<html>not robots at all: no</html>", True),
        ("User-agent: *\nDisallow:", True),
        ("User-agent: *\nDisallow: /", False),
        ("\ufeffuser-AGENT : *  # all\r\nDISALLOW: /p # mine", False),
        ("User-agent: *\nDisallow: /\nAllow: /page", True),
        ("User-agent: *\nAllow: /page\nDisallow: /page", True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: Steersman\nAllow: /", True),
        ("User-agent: steersman\nUser-agent: Other\nDisallow: /page\n\nUser-agent: *", False),
        ("User-agent: Other\nDisallow: /", True),
        ("User-agent: *\nDisallow: /x\nUser-agent: *\nDisallow: /page", False),
        ("Disallow: /", True),
    ],
)
def test_the_group_for_us_decides_and_in_it_the_longest_line(text: str, allowed: bool) -> None:
    assert parse_robots(text).allow("/page?x=1") is allowed


def test_a_hostile_pattern_takes_no_time() -> None:
    rules = parse_robots("User-agent: *\nDisallow: /" + "a*" * 2_000 + "b$")
    assert rules.allow("/" + "a" * 100_000)
