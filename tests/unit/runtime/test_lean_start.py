import subprocess
import sys

CODE = """
import sys
import steersman_chatloop.app, steersman_store.app
heavy = {"aiohttp", "prompt_toolkit", "typer"}
print(sorted(heavy & sys.modules.keys()))
import aiohttp, cel
print(cel.compile("one + 1 == 2").execute({"one": 1}), aiohttp.ClientSession.__name__)
"""


def test_services_start_without_what_only_their_libraries_could_use() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["[]", "True ClientSession"]
