"""The truth: chats in PostgreSQL, changed only by transitions and announced by an outbox."""

# Before all libraries: it leaves parts of them out.
import steersman_runtime  # noqa: F401  # pyright: ignore[reportUnusedImport]
