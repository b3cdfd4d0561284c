"""What `steersman mcp` makes of its words, before it asks anybody."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from steersman.main import main
from steersman.mcp import _came_back  # pyright: ignore[reportPrivateUsage]  # pasted by people
from steersman_contracts.rest import FinishMcpLoginBody


def test_the_pasted_address_of_the_last_page_is_read() -> None:
    address = " http://127.0.0.1:8700/mcp-login?code=a%2Fb&state=s-1&iss=https%3A%2F%2Fi.example\n"

    assert _came_back(address) == FinishMcpLoginBody("s-1", "a/b", "https://i.example")
    with pytest.raises(click.UsageError, match="begin again"):
        _came_back("http://127.0.0.1:8700/mcp-login?error=access_denied&state=s-1")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["wiki"], "either an ADDRESS or a --command"),
        (["wiki", "https://w.example", "--command", "x"], "either an ADDRESS or a --command"),
        (["wiki", "https://w.example", "--oauth", "--key-env", "K"], "one of them"),
        (["wiki", "https://w.example", "--key-env", "NO_SUCH_KEY"], "empty or not set"),
        (["wiki", "https://w.example", "--header-env", "X-Key"], "NAME=VARIABLE"),
        (["a__b", "https://w.example"], "slug"),
        (["wiki", "ftp://w.example"], "url"),
    ],
)
def test_what_makes_no_server_is_refused_here(words: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["mcp", "add", *words])

    assert result.exit_code == 2
    assert told in result.output
