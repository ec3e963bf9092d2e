"""The program as a shell sees it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from cli_aids import Shell

from chatsession import __version__


def chatsession(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "chatsession", *arguments],
        capture_output=True,
        env=os.environ | environment,
        check=False,
    )


def press_ctrl_c(process: subprocess.Popen[bytes]) -> int | None:
    """Press it until the process ends, as people do: one that comes just before a wait does not end the wait."""
    for _ in range(12):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(5)
    return None


def test_it_runs_as_a_module(shell: Shell) -> None:
    shell.put({"42": b'{"count":1}'})
    done = chatsession("get", shell.url, "42")
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{\n  "count": 1\n}\n', b"")
    assert chatsession("get", shell.url, "43").returncode == 4
    assert chatsession("no-such-command").returncode == 2
    assert chatsession("--version").stdout.strip()
    assert b"rotate-keys" in chatsession("--help").stdout


def test_colours_are_for_terminals_that_want_them(shell: Shell) -> None:
    shell.put({"42": b"1"})
    assert b"\x1b" not in chatsession("ls", shell.url).stdout
    assert b"\x1b" in on_terminal("ls", shell.url)
    assert b"\x1b" not in on_terminal("ls", shell.url, NO_COLOR="1").replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"")


def test_a_pipe_that_closes_early_is_no_error(shell: Shell) -> None:
    shell.put({f"chat:{number}": b"1" for number in range(5000)})
    command = f"{sys.executable} -m chatsession ls {shell.url} --limit 0 | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.split() == [b"SIZE", b"EXPIRES", b"KIND", b"KEY"]


def test_ctrl_c_ends_a_watch(shell: Shell) -> None:
    shell.put({"42": b"1"})
    with shell.process("watch", "42", "--json") as watching:
        assert watching.stdout is not None
        assert b'"value":1' in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.stderr is not None
        said = watching.stderr.read().decode()
    assert watching.returncode == 130, said


def test_ctrl_c_ends_a_question(shell: Shell) -> None:
    shell.put({"42": b"1"})
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "chatsession", "rm", shell.url, "--prefix", "4"]
    terminal = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=terminal) as asking:
        said = b""
        while b"[y/N]" not in said:
            said += os.read(ours, 65536)
        try:
            assert press_ctrl_c(asking) == 1
        finally:
            asking.kill()
    os.close(theirs)
    os.close(ours)
    assert shell.stored() == {"42": b"1"}


def test_scripts_are_told_the_address_of_the_inspector(shell: Shell) -> None:
    shell.put({"42": b"1"})
    with shell.process("web", "--json") as inspecting:
        assert inspecting.stdout is not None
        told = json.loads(inspecting.stdout.readline())
        assert told["url"].startswith("http://127.0.0.1:")
        inspecting.terminate()
        assert inspecting.stdout.read() == b""
    assert inspecting.returncode == 0


def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError('No module named typer', name='typer')")
    done = chatsession("ls", "memory:", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert b"pip install 'chatsession[cli]'" in done.stderr


def test_a_full_disk_is_said_so(shell: Shell) -> None:
    shell.put({f"chat:{number}": b"1" for number in range(1000)})
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "-m", "chatsession", "export", shell.url]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 3
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_terminal_that_does_not_know_its_size(shell: Shell) -> None:
    done = chatsession("set", shell.url, "42", "1", COLUMNS="0")
    assert b"stored" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"), [("get {} 42 >&-", b""), ("set {} 42 - <&-", b"not JSON"), ("import {} - <&-", b"0 of 0")]
)
def test_a_stream_that_is_closed_is_an_empty_one(shell: Shell, words: str, says: bytes) -> None:
    shell.put({"42": b"1"})
    command = f"{sys.executable} -m chatsession {words.format(shell.url)}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert says in done.stderr
    assert shell.stored() == {"42": b"1"}


def test_a_key_is_utf8_whatever_the_locale_is(shell: Shell) -> None:
    shell.put({"🍕": b"1"})
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert chatsession("get", shell.url, "🍕", **ascii_only).stdout == b"1\n"
    done = chatsession("get", shell.url, os.fsdecode(b"\xff"))
    assert done.returncode == 2
    assert b"is not valid Unicode" in done.stderr


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_shells_complete_its_commands(name: str) -> None:
    done = chatsession(_CHATSESSION_COMPLETE=f"source_{name}")
    assert done.returncode == 0
    assert b"chatsession" in done.stdout


def on_terminal(*arguments: str, **environment: str) -> bytes:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "chatsession", *arguments],
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | environment,
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return said


def test_the_demo_is_the_playground(tmp_path: Path) -> None:
    script = tmp_path / "no_such_bot.py"
    assert f"there is no file {script}".encode() in chatsession("demo", str(script)).stderr


def test_the_demo_says_how_to_install_the_playground(tmp_path: Path) -> None:
    done = in_python(tmp_path, "import sys; sys.modules['chatsession_playground'] = None", "demo", "bot.py")
    assert done.returncode == 2
    assert b"pip install chatsession-playground" in done.stderr


def test_it_tells_its_version_from_a_source_tree(tmp_path: Path) -> None:
    nothing_installed = (
        "import importlib.metadata as metadata\n"
        "def version(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = version"
    )
    done = in_python(tmp_path, nothing_installed, "--version")
    assert (done.returncode, done.stdout.decode().strip(), done.stderr) == (0, __version__, b"")


def in_python(folder: Path, before: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command line after some code."""
    script = folder / "run.py"
    script.write_text(f"{before}\nimport sys\nfrom chatsession.cli import main\nsys.exit(main())\n")
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, check=False)


@pytest.mark.parametrize("words", ["--help", "ls --help", "set --help", "ls URL", "locks URL", "doctor URL"])
def test_a_terminal_of_80_columns_is_enough(shell: Shell, words: str) -> None:
    shell.put({"k" * 300: b"1" * 2_000_000})
    said = on_terminal(*words.replace("URL", shell.url).split(), COLUMNS="80", NO_COLOR="1")
    lines = re.sub(r"\x1b\[[\d;]*m", "", said.decode()).splitlines()
    assert max(len(line) for line in lines) <= 80
