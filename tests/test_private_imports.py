"""What is private to a package is imported only there: `python -m tools.private_imports`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.private_imports import ROOTS, findings

HERE = Path(__file__).parents[1]


def tree(root: Path, **modules: str) -> Path:
    """A package with the files given, and with something private in `package.inner`."""
    for name, text in {"inner/_secret.py": "value = _value = 1\n", "inner/other.py": "_name = 1\n", **modules}.items():
        file = root / "package" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    "line",
    [
        "from package.inner._secret import value",
        "from package.inner import _secret",
        "import package.inner._secret",
        "from package.inner.other import _name",
        "from .inner._secret import value",
        "def f():\n    from .inner import _secret",
    ],
)
def test_reaching_into_another_package_is_found(tmp_path: Path, line: str) -> None:
    (found,) = findings(tree(tmp_path, **{"outside.py": line + "\n"}))
    assert found.startswith(f"{tmp_path / 'package' / 'outside.py'}:")
    assert found.endswith("is private to package.inner")


@pytest.mark.parametrize(
    "line",
    [
        "from package.inner._secret import value, _value",
        "from ._secret import value",
        "from . import _secret",
        "from .other import _name",
        "from __future__ import annotations",
    ],
)
def test_the_package_itself_may_import_it(tmp_path: Path, line: str) -> None:
    assert findings(tree(tmp_path, **{"inner/near.py": line + "\n", "inner/below/far.py": "import package\n"})) == []


def test_packages_within_it_may_import_it(tmp_path: Path) -> None:
    line = "from package.inner._secret import value\n"
    assert findings(tree(tmp_path, **{"inner/below/far.py": line})) == []


def test_nothing_in_this_project_reaches_into_a_package() -> None:
    assert [line for root in ROOTS for line in findings(HERE / root)] == []
