import subprocess
import sys

import pytest

CODE = """
import sys
import steersman_{service}.__main__
heavy = {{"aiohttp", "prompt_toolkit", "rich", "twisted", "typer"}}
print(sorted(heavy & sys.modules.keys()))
import aiohttp, cel, rich.console
print(cel.compile("one + 1 == 2").execute({{"one": 1}}), aiohttp.ClientSession.__name__)
"""


@pytest.mark.parametrize("service", ["chatloop", "store"])
def test_services_start_without_what_only_their_libraries_could_use(service: str) -> None:
    code = CODE.format(service=service)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["[]", "True ClientSession"]
