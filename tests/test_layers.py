"""Imports inside the package go only downwards; pyproject.toml lists the layers."""

from conftest import REPOSITORY
from importlinter.cli import lint_imports


def test_imports_go_only_downwards_and_never_in_circles(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    assert lint_imports(no_cache=True, no_logo=True) == 0, capsys.readouterr().out
