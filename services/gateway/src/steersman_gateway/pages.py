"""Small HTML pages, complete in themselves: nothing is loaded from anywhere else."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final

from litestar import MediaType, Response

STYLE: Final = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 46rem;
  padding: 3rem 1.2rem; }
h1 { font-size: 1.5rem; margin: 0 0 .6rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
code, pre { font: .9em ui-monospace, monospace; }
pre { border: 1px solid var(--line); border-radius: .5rem; overflow-x: auto;
  padding: .7rem .9rem; }
button { background: #1f6feb; border: 0; border-radius: .5rem; color: #fff; cursor: pointer;
  font: inherit; padding: .6rem 1.4rem; }
details { border-top: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid var(--line); padding: .25rem .8rem .25rem 0; text-align: left;
  vertical-align: top; }
.method { display: inline-block; font: .8em ui-monospace, monospace; font-weight: 700;
  min-width: 4.2em; }
.dim { opacity: .65; }
"""


def _source(text: str) -> str:
    """What names an inline style or script in a policy, and admits no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page(
    title: str,
    body: str,
    *,
    script: str = "",
    style: str = "",
    images: bool = False,
    status: int = 200,
    refused: bool = False,
) -> Response[str]:
    """A page.

    Args:
        title: Plain text.
        body: HTML; whoever builds it escapes what it puts in.
        script: JavaScript; it may talk to this server alone.
        style: CSS besides that of every page.
        images: It shows pictures of this server.
        status: The HTTP status.
        refused: The page is an error: it gets no form and no script.
    """
    css = STYLE + style
    policy = ["default-src 'none'", f"style-src {_source(css)}", "base-uri 'none'"]
    policy += ["frame-ancestors 'none'", "form-action 'none'" if refused else "form-action 'self'"]
    tail = ""
    if images:
        policy.append("img-src 'self'")
    if script:
        policy += [f"script-src {_source(script)}", "connect-src 'self'"]
        tail = f"<script>{script}</script>"
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>"
        f"<body>{body}{tail}</body></html>"
    )
    return Response(
        html,
        status_code=status,
        media_type=MediaType.HTML,
        headers={"Content-Security-Policy": "; ".join(policy)},
    )
