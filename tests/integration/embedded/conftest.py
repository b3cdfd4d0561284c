"""Real parts for the tests in this folder."""

import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from steersman.embedded.nats import NatsServer
from steersman.embedded.postgres import PostgresServer
from steersman.embedded.server import memory


@pytest.fixture(scope="module")
def created() -> Generator[Path]:
    """The directory of a server that has been started once and stopped."""
    with TemporaryDirectory(dir=memory(), prefix="steersman-test-") as folder:
        home = Path(folder) / "created"
        with PostgresServer(home):
            pass
        yield home


@pytest.fixture
def postgres(created: Path, quick_path: Path) -> Generator[PostgresServer]:
    """One on a copy: creating a database is a second's work, and has tests of its own."""
    home = quick_path / "postgres"
    subprocess.run(["/bin/cp", "--archive", created, home], check=True)
    with PostgresServer(home) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_nats() -> Generator[NatsServer]:
    """One with users, as in production."""
    with NatsServer(auth=True) as server:
        yield server


@pytest.fixture
def quick_path() -> Generator[Path]:
    """Like `tmp_path`, in memory where there is some: a new database is mostly writing."""
    with TemporaryDirectory(dir=memory(), prefix="steersman-test-") as folder:
        yield Path(folder)


@pytest.fixture
def all_gone() -> Callable[[list[int]], bool]:
    """Whether all these processes end within half a minute; waits on the kernel, not on a clock."""

    def check(pids: list[int]) -> bool:
        processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        _, alive = psutil.wait_procs(processes, timeout=30)
        return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    return check
