# Before all libraries: it leaves parts of them out.
import steersman_runtime  # noqa: F401  # pyright: ignore[reportUnusedImport]
