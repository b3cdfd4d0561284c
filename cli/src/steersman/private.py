"""Files that only their owner may read: secrets, configurations that carry them, run files."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone at every moment."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file, made on first use. The caller keeps others out of the folder."""
    if path.exists():
        return path.read_text().strip()
    text = make()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, text + "\n")
    return text
