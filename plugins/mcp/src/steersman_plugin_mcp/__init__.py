"""The tools of MCP servers, offered like those of any plugin."""

from __future__ import annotations

import os

from steersman_plugin_mcp.plugin import McpPlugin

plugin = McpPlugin(os.environ)
