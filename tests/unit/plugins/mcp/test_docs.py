from __future__ import annotations

import re
from pathlib import Path

from steersman_plugin_mcp.config import parse

PAGE = Path(__file__).parents[4] / "docs" / "mcp.md"


def test_the_example_of_the_page_is_a_configuration() -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    environment = {f"STEERSMAN_PLUGIN_MCP_{name}_KEY": "k-123456" for name in ("GITHUB", "WIKI")}

    found = parse(example[1].encode(), toml=True, environment=environment)

    assert [server.slug for server in found.servers] == ["github", "wiki", "time"]
    assert found.warnings == ()
