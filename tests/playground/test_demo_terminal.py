"""The demo's command line."""

import importlib
import sys
from pathlib import Path

import pytest

from chatsession_playground import _extra
from chatsession_playground._style import Style
from chatsession_playground.terminal import main


class Terminal:
    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def test_with_a_token_the_script_runs_on_telegram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "bot.py"
    script.write_text("import os, sys\nassert __name__ == '__main__'\nprint(os.environ['BOT_TOKEN'], sys.argv)")
    monkeypatch.setenv("BOT_TOKEN", "1:real")
    monkeypatch.setattr(sys, "argv", ["demo"])
    monkeypatch.setattr(sys, "path", list(sys.path))

    assert main([str(script)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "BOT_TOKEN is set: bot.py runs on Telegram itself. Ctrl-C ends it.",
        f"1:real ['{script}']",
    ]


def test_a_missing_script_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_bot.py"])
    assert "there is no file no_such_bot.py" in capsys.readouterr().err


def test_a_missing_extra_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_extra, "find_spec", lambda _module: None)
    (tmp_path / "bot.py").touch()
    assert main([str(tmp_path / "bot.py")]) == 1
    assert "pip install chatsession-playground" in capsys.readouterr().err


def test_the_server_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "chatsession_playground.bot_api", raising=False)
    with pytest.raises(ImportError, match=r"needs aiohttp: pip install chatsession-playground"):
        importlib.import_module("chatsession_playground.bot_api")


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "colours"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, no_color: str, colours: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stdout", Terminal(is_terminal))
    style = Style.of(sys.stdout)
    assert style.good("ok") == ("\x1b[32mok\x1b[0m" if colours else "ok")
