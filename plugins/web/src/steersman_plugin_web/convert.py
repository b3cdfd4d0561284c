"""HTML to Markdown and PDF to text, run as a program of its own.

It reads the document from standard input and writes `{"title": …, "text": …, "cut": …}` or
`{"refused": …}`. A hostile document can take for ever or all memory, and nothing else stops that
inside a process: here the limits of the system do. It imports nothing of ours.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from io import BytesIO
from typing import Any, Final
from urllib.parse import urljoin

HTML_MAX: Final = 1_000_000
"""Characters of HTML; about fifteen seconds at worst."""
TEXT_MAX: Final = 1_000_000
PAGES_MAX: Final = 1_000
CPU_S: Final = 25
MEMORY: Final = 1024 * 1024 * 1024
# Not `form`: some pages are one.
_CHROME: Final = [
    *(
        "head",
        "title",
        "script",
        "style",
        "noscript",
        "template",
        "nav",
        "footer",
        "aside",
        "dialog",
    ),
    *("button", "select", "input", "textarea"),
    *("svg", "canvas", "iframe", "object", "embed", "video", "audio"),
]


def html_to_markdown(html: str, base: str) -> dict[str, Any]:
    """Convert what people read of a page: its main part, without menus, forms and programs."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    # Unlike the parser of the standard library, lxml knows which end tags may be left out.
    soup = BeautifulSoup(html[:HTML_MAX], "lxml")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    base_tag = soup.find("base", href=True)
    if base_tag is not None:
        base = _join(base, str(base_tag["href"]))
    main = soup.find("main") or soup.select_one("[role=main]") or soup.find("article")
    # A page whose main part is only a shell is read whole.
    part = main if main is not None and len(main.get_text(strip=True)) >= 200 else soup
    for tag in part.find_all(_CHROME):
        tag.decompose()
    for tag in part.select("[aria-hidden=true]"):
        tag.decompose()
    for image in part.find_all("img"):
        said = " ".join(str(image.get("alt") or "").split())
        image.replace_with(f"[image: {said}]" if said else "")
    for link in part.find_all("a"):
        href = str(link.get("href") or "")
        target = _join(base, href)
        if href and target.startswith(("http://", "https://")):
            link["href"] = target
        else:
            del link["href"]
    try:
        text = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(part)
    except RecursionError:  # nested beyond all reason
        text = part.get_text("\n")
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()
    return {"title": title, "text": text, "cut": len(html) > HTML_MAX}


def _join(base: str, target: str) -> str:
    try:
        return urljoin(base, target.strip())
    except ValueError:
        return ""


def pdf_to_text(data: bytes) -> dict[str, Any]:
    """Take the text out of a PDF, page by page."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            return {"refused": "the PDF is locked with a password"}
        pages: list[str] = []
        length = 0
        for page in reader.pages[:PAGES_MAX]:
            pages.append(f"[page {len(pages) + 1}]\n{page.extract_text().strip()}")
            length += len(pages[-1])
            if length > TEXT_MAX:
                break
        cut = len(pages) < len(reader.pages)
        metadata = reader.metadata
        title = str(metadata.title or "") if metadata else ""
    except PyPdfError as error:
        return {"refused": f"the PDF is damaged ({type(error).__name__})"}
    except Exception as error:  # noqa: BLE001  # a parser of hostile input raises anything
        return {"refused": f"the PDF cannot be read ({type(error).__name__})"}
    return {"title": title, "text": "\n\n".join(pages), "cut": cut}


def main() -> None:
    """Convert standard input: `convert.py pdf`, or `convert.py html` with the URL as first line.

    The URL does not stand among the arguments, where everybody on the machine can read it.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = sys.stdin.buffer.read()
    if sys.argv[1] == "html":
        base, _, html = data.decode(errors="replace").partition("\n")
        told = html_to_markdown(html, base)
    else:
        told = pdf_to_text(data)
    if len(told.get("text", "")) > TEXT_MAX:
        told |= {"text": told["text"][:TEXT_MAX], "cut": True}
    sys.stdout.buffer.write(json.dumps(told).encode())


if __name__ == "__main__":
    main()
