import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from steersman.datadir import DataDir, default_root, held
from steersman.logs import render
from steersman.main import main
from steersman.services import STAGES, Wiring, environment

SECRETS = {
    "OPENAI_API_KEY": "sk-openai",
    "GOOGLE_API_KEY": "sk-google",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "DATABASE_PASSWORD": "other",
    "STEERSMAN_SECRET_KEY": "from-outside",
}


def wiring(data: DataDir) -> Wiring:
    return Wiring(
        data=data,
        nats_urls={kind: f"nats://{kind}:pw@localhost" for kind in STAGES},
        nats_system_url="nats://system:pw@localhost",
        database_url="postgresql://db",
        secret_key="key",
        public_url="http://localhost",
        log_level="info",
        local_model_url="http://model/v1",
        local_model_key="model-key",
    )


def steersman(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from steersman.main import main; main()", *args]
    return subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=150
    )


def data_in(path: Path) -> DataDir:
    data = DataDir(path)
    data.create()
    return data


@pytest.mark.parametrize("kind", list(STAGES))
def test_a_service_sees_its_own_secrets_and_no_others(kind: str, tmp_path: Path) -> None:
    env = {
        **SECRETS,
        "PATH": "/bin",
        "LC_ALL": "C",
        f"STEERSMAN_{kind.upper()}_LOG_LEVEL": "debug",
        "STEERSMAN_OTHER_LOG_LEVEL": "debug",
        "STEERSMAN_PLUGIN_WEB_BRAVE_KEY": "brave-key",
    }
    seen = environment(kind, wiring(DataDir(tmp_path)), env)

    assert seen["STEERSMAN_NATS_URL"] == f"nats://{kind}:pw@localhost"
    assert seen[f"STEERSMAN_{kind.upper()}_LOG_LEVEL"] == "debug"
    assert (seen["PATH"], seen["LC_ALL"]) == ("/bin", "C")
    assert not seen.keys() & {"AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD"}
    assert "STEERSMAN_OTHER_LOG_LEVEL" not in seen
    assert ("STEERSMAN_PLUGIN_WEB_BRAVE_KEY" in seen) is (kind == "tools")
    only_for_the_store = {
        "STEERSMAN_DATABASE_URL": "postgresql://db",
        "STEERSMAN_SECRET_KEY": "key",
        "STEERSMAN_LOCAL_MODEL_KEY": "model-key",
        "STEERSMAN_OPENAI_API_KEY": "sk-openai",
        "STEERSMAN_GEMINI_API_KEY": "sk-google",
    }
    if kind == "store":
        assert only_for_the_store.items() <= seen.items()
    else:
        assert not set(only_for_the_store.values()) & set(seen.values())


def test_a_second_up_says_who_runs_the_directory(tmp_path: Path) -> None:
    data = data_in(tmp_path)
    with held(data) as lock:
        lock.announce("http://127.0.0.1:8700")
        result = steersman("up", "--data", str(tmp_path))
    assert result.returncode == 3
    assert f"process {os.getpid()}" in result.stderr
    assert "http://127.0.0.1:8700" in result.stderr


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; "
        "from steersman.datadir import DataDir, held; "
        "lock = held(DataDir(Path(sys.argv[1]))); lock.__enter__(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    data = data_in(tmp_path)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    with held(data):
        pass


def test_a_failed_start_shows_the_last_words_and_leaves_nothing(tmp_path: Path) -> None:
    result = steersman(
        *("up", "--data", str(tmp_path), "--no-local-model", "--port", "0"),
        STEERSMAN_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "store ended with status 1" in result.stdout
    assert "the last lines of store" in result.stdout
    assert "the database cannot be reached: ConnectionRefusedError" in result.stdout
    assert "Exception Group" not in result.stdout
    assert str(tmp_path) not in subprocess.check_output(["/bin/ps", "-eo", "args"], text=True)
    assert not (tmp_path / "endpoint.json").exists()


@pytest.mark.parametrize("value", ["store=0", "chatloop=x", "chatloop", "nobody=2", "tools=1000"])
def test_replicas_that_make_no_sense_are_refused(value: str) -> None:
    result = CliRunner().invoke(main, ["up", "--replicas", value])
    assert result.exit_code == 2
    assert "--replicas" in result.output


def test_the_data_directory_follows_the_rules_of_the_platform() -> None:
    assert default_root({}, is_root=True) == Path("/var/lib/steersman")
    assert default_root({"XDG_DATA_HOME": "/x"}, is_root=False) == Path("/x/steersman")
    assert default_root({"XDG_DATA_HOME": "x"}, is_root=False).parts[-2:] == ("share", "steersman")


def test_secrets_stay_the_same_and_private(tmp_path: Path) -> None:
    data = data_in(tmp_path)
    key = data.secret_key()
    assert data.secret_key() == key
    assert data.password("one") != data.password("two")
    assert {path.stat().st_mode & 0o777 for path in data.secrets.iterdir()} == {0o600}
    assert data.secrets.stat().st_mode & 0o777 == 0o700


def test_migrate_brings_the_embedded_database_along(quick_path: Path) -> None:
    first = steersman("migrate", "--data", str(quick_path))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "migration.applied" in first.stdout
    second = steersman("migrate", "--data", str(quick_path))
    assert second.returncode == 0
    assert "migration.applied" not in second.stdout


def test_doctor_names_what_is_missing_and_what_that_disables(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--json", "--data", str(tmp_path)])
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert report["fit"] is True
    found = {finding["name"]: finding for finding in report["findings"]}
    assert {"Python", "PostgreSQL", "NATS", "bubblewrap", "Xvnc", "Chromium", "Node"} <= set(found)
    assert all(f["disables"] and f["fix"] for f in found.values() if f["state"] != "ok")


class TestRender:
    def test_json_lines_become_readable(self) -> None:
        line = json.dumps(
            {
                "event": "turn.finished",
                "level": "info",
                "timestamp": "2026-11-23T10:00:00Z",
                "service": "chatloop",
                "steps": 2,
                "note": "two words",
            }
        )
        shown = render("chatloop", line, log_format="pretty", level="info", width=9)
        assert shown is not None
        plain = click.unstyle(shown)
        assert plain.startswith("chatloop  │ ")
        assert plain.endswith(' info    turn.finished steps=2 note="two words"')

    def test_other_lines_pass(self) -> None:
        shown = render("tools", "Traceback:", log_format="pretty", level="info")
        assert shown is not None
        assert click.unstyle(shown) == "tools │ Traceback:"

    def test_what_is_less_than_the_level_is_left_out(self) -> None:
        quiet = [
            '{"event": "x", "level": "debug"}',
            "[7] LOG:  database system is ready",
            "[7] [INF] Server is ready",
            "[7] [WRN] Plaintext passwords detected, use nkeys or bcrypt",
        ]
        loud = ["[7] FATAL:  no", "[7] [ERR] no", "anything else"]
        assert [render("x", q, log_format="pretty", level="info") for q in quiet] == [None] * 4
        assert all(render("x", line, log_format="pretty", level="info") for line in loud)

    def test_json_stays_json(self) -> None:
        line = '{"event": "x", "level": "info"}'
        assert render("store", line, log_format="json", level="info") == line
        shown = render("nats", "[7] [ERR] no", log_format="json", level="info")
        assert shown is not None
        assert json.loads(shown) == {
            "service": "nats",
            "level": "error",
            "event": "output",
            "line": "[7] [ERR] no",
        }

    def test_nothing_moves_the_readers_cursor(self) -> None:
        line = json.dumps({"event": "x", "name": "\x1b[2Jgone\r"})
        for text in (line, "\x1b[2Jgone\r"):
            shown = render("tools", text, log_format="pretty", level="info")
            assert shown is not None
            assert "\x1b[2J" not in shown
            assert "\r" not in shown
