"""Files and folders that are complete or not there."""

import json
from pathlib import Path

import numpy as np
import pytest

from ocp_physmol import files
from ocp_physmol.errors import UserError
from ocp_physmol.files import (
    complete_folder,
    complete_or_absent,
    resumable_folder,
    write_json,
)


def test_a_file_is_complete_or_not_there(tmp_path):
    file = tmp_path / "new/file.npz"
    with pytest.raises(KeyError), complete_or_absent(file) as partial:
        partial.write_text("half")
        raise KeyError
    assert not any(file.parent.iterdir())
    with complete_or_absent(file) as partial:
        partial.write_text("whole")
        assert not file.exists()
    assert [f.read_text() for f in file.parent.iterdir()] == ["whole"]
    with pytest.raises(UserError, match=r"cannot be written .*choose another place"):
        complete_or_absent(file / "below").__enter__()
    for folder in (tmp_path, Path(), Path("/")):
        with pytest.raises(UserError, match="is a folder; give the name of a file"):
            complete_or_absent(folder).__enter__()
    with pytest.raises(UserError, match="/dev/null is a device; give the name of a file"):
        complete_or_absent(Path("/dev/null")).__enter__()


def test_json_holds_arrays_infinity_and_text(tmp_path):
    content = {"Å": np.eye(2), "lost": float("inf")}
    for indent in (None, 2):
        write_json(tmp_path / "content.json", content, indent)
        text = (tmp_path / "content.json").read_text(encoding="utf-8")
        assert json.loads(text) == {"Å": [[1, 0], [0, 1]], "lost": float("inf")}
        assert "Å" in text and (text.count("\n") == 1) == (indent is None)


def test_a_folder_is_complete_or_as_it_was(tmp_path):
    folder = tmp_path / "data"
    for content in ("first", "second"):
        with complete_folder(folder, {"is": content}) as partial:
            (partial / "data.lmdb").write_text(content)
        with pytest.raises(KeyError), complete_folder(folder, {}) as partial:
            (partial / "data.lmdb").write_text("half")
            raise KeyError
        assert (folder / "data.lmdb").read_text() == content
        assert json.loads((folder / "report.json").read_text()) == {"is": content}
        assert [p.name for p in tmp_path.iterdir()] == ["data"]
    (folder / "report.json").unlink()
    refused = pytest.raises(UserError, match="no data set of ours; choose another folder")
    with refused, complete_folder(folder, {}):
        pass


def test_what_an_attempt_has_left_is_there_in_the_next_one_with_the_same_plan(tmp_path):
    for plan, expected in (({"a": 1}, False), ({"a": 1}, True), ({"a": 2}, False)):
        with pytest.raises(KeyboardInterrupt), resumable_folder(tmp_path / "dst", plan) as folder:
            assert (folder / "part").exists() == (folder / "parts/0").exists() == expected
            (folder / "parts").mkdir(exist_ok=True)
            (folder / "parts/0").touch()
            (folder / "part").touch()
            raise KeyboardInterrupt
    with resumable_folder(tmp_path / "dst", {"a": 2}) as folder:
        assert (folder / "part").exists()
    assert json.loads((tmp_path / "dst/report.json").read_text()) == {"a": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["dst"]


def test_a_folder_of_others_stays(tmp_path):
    (tmp_path / "file").touch()
    refused = pytest.raises(UserError, match="no data set of ours; choose another folder")
    with refused, resumable_folder(tmp_path, {}):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_command_has_left_is_removed(tmp_path):
    (tmp_path / ".data.partial/all").mkdir(parents=True)
    with complete_folder(tmp_path / "data", {}) as folder:
        assert not any(folder.iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("other", ["notes.txt", "qm9/report.json"])
def test_what_lies_in_a_data_set_is_not_removed_with_it(tmp_path, other):
    with complete_folder(tmp_path / "data", {}) as folder:
        (folder / "train").mkdir()
        (folder / "train/data.lmdb").touch()
    (tmp_path / "data" / other).parent.mkdir(exist_ok=True)
    (tmp_path / "data" / other).touch()
    refused = pytest.raises(UserError, match=rf"would be replaced, and holds {other}, too; choose")
    with refused, complete_folder(tmp_path / "data", {}):
        pass
    assert (tmp_path / "data" / other).exists()


@pytest.mark.parametrize("output", [".", "..", "/"])
def test_a_folder_without_a_name(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = pytest.raises(UserError, match="choose a folder with a name of its own")
    with refused, complete_folder(Path(output), {}):
        pass


def test_two_commands_do_not_fill_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with resumable_folder(tmp_path / "dst", {"a": 1}) as folder:
        (folder / "data.lmdb").touch()
        refused = pytest.raises(UserError, match=r"another command is making .*dst; wait until")
        with refused, resumable_folder(tmp_path / "dst", {"a": 2}):
            pass
        assert (folder / "data.lmdb").exists()
    with complete_folder(tmp_path / "dst", {"a": 1}):
        refused = pytest.raises(UserError, match=r"another command is making .*dst; wait until")
        with refused, complete_folder(tmp_path / "dst", {"a": 2}):
            pass
    with resumable_folder(tmp_path / "dst", {"a": 2}) as folder:
        assert not (folder / "data.lmdb").exists()
