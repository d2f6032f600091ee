"""The tutorial notebook runs, and its relaxation leads back towards the minimum."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient

NOTEBOOK = REPOSITORY / "docs/tutorial.ipynb"


def test_the_notebook_is_committed_without_outputs():
    assert all(not cell.get("outputs") for cell in nbformat.read(NOTEBOOK, 4).cells)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    for name in ("main.py", "configs", "tests"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = nbformat.read(NOTEBOOK, 4)
    client = NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    text = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    before, after = map(float, re.search(r": ([\d.]+) Å from .* then ([\d.]+) Å", text).groups())
    assert after < before
    figures = [o for o in notebook.cells[-2].outputs if "image/png" in o.get("data", {})]
    assert len(figures) == 1
