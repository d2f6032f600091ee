"""An experiment on small surfaces, relaxed with EMT: from the files to the table, and once more."""

import json

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import LBFGS
from conftest import REPOSITORY, ends, run_command

from ocp_physmol.experiments.records import read_record

SMALL = (
    "model: {hidden_channels: 16, num_layers: 1, num_rbf: 8, num_heads: 2, attention_channels: 8}"
)
CONTENT = f"""
title: Small surfaces
seconds: 2
seeds: [3]
surfaces: {{folds: 2, steps: 4, fmax: 1.0e-4}}
runs:
  PhysMol: {{config: configs/s2ef/small_physmol.yml, {SMALL}}}
"""
PARTS = ["seen", "unseen 1", "unseen 2"]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A folder with an experiment and four relaxations, and what starts it."""
    folder = tmp_path_factory.mktemp("surfaces")
    (folder / "mine.yml").write_text(CONTENT)
    (folder / "dft").mkdir()
    for metal in ("Cu", "Ag", "Ni", "Pd"):
        slab = fcc111(metal, (2, 2, 2), vacuum=6.0, periodic=True)
        add_adsorbate(slab, "O", 1.8, "fcc")
        slab.set_constraint(FixAtoms(mask=slab.get_tags() == 2))
        slab.rattle(0.1, seed=1)
        slab.calc = EMT()
        LBFGS(slab, trajectory=str(folder / f"dft/{metal}.traj"), logfile=None).run(0.01, steps=14)
    return folder, [
        str(folder / "mine.yml"), "--source", str(folder / "dft"), "--data", str(folder / "data"),
        "--runs", str(folder / "runs"), "--records", str(folder / "records"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(arguments):
    """The folder when all is done, and what was printed."""
    result = run_command("experiments", *arguments[1], "--jobs", "2")
    assert result.returncode == 0, result.stdout
    return arguments[0], result.stdout


@pytest.mark.slow
def test_every_part_has_a_record(finished):
    found = [read_record(path) for path in (finished[0] / "records/mine").glob("*.json")]
    assert sorted(record["part"] for record in found) == PARTS
    for record in found:
        assert record["model"] == "PhysMol" and record["seed"] == 3 and record["parts"] == PARTS
        assert record["steps"] > 0 and record["seconds"]["used"] >= 2
        assert str(finished[0] / "dft") not in json.dumps(record["data"])
        assert record["nothing"]["force_cosine"] == 0 and record["nothing"]["energy_mae_ev"] > 0
        assert np.isfinite(list(record["errors"].values())).all()
        ends_of = record["relaxations"]
        number = 4 if record["part"] == "seen" else 2
        assert len(ends_of["sids"]) == number == len(ends_of["distances_a"])
        assert 0 <= ends_of["adwt"] <= 1 and 0 < ends_of["do_nothing_adwt"] < 1
        moved = np.array(ends_of["distances_a"]) - ends_of["start_distances_a"]
        assert (moved != 0).all()  # relaxed, for no force is below so small a threshold


@pytest.mark.slow
def test_a_row_is_a_model(finished):
    rows = [line for line in finished[1].splitlines() if line.startswith("PhysMol")]
    assert len(rows) == 1 and "–" not in rows[0]
    assert "do nothing" in finished[1]


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(finished, arguments):
    folder = finished[0]
    files = [*folder.glob("records/mine/*"), *folder.glob("runs/mine/*/log.txt")]
    files += folder.glob("data/*/report.json")
    assert len(files) == 3 + 3 + 4
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    (folder / "records/mine/PhysMol_seen.json").rename(folder / "judgement.json")
    result = run_command("experiments", *arguments[1])
    assert result.returncode == 0, result.stdout
    again = json.loads((folder / "records/mine/PhysMol_seen.json").read_text())
    former = json.loads((folder / "judgement.json").read_text())
    assert again["relaxations"] == former["relaxations"] and again["steps"] == former["steps"]
    untouched = [path for path in files if "PhysMol_seen" not in str(path)]
    assert len(untouched) == 2 + 2 + 4
    for path in untouched:
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before[path]
    assert "PhysMol" in result.stdout


@pytest.mark.slow
def test_the_report_shows_surfaces(finished, tmp_path):
    ends(0, "report", "--records", finished[0] / "records", "--output", tmp_path)
    page, table = (tmp_path / "index.html").read_text(), (tmp_path / "mine.md").read_text()
    assert "Small surfaces" in page and "unseen: ADwT" in page
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "PhysMol", "do nothing"
    ]  # fmt: skip


@pytest.mark.parametrize("more, message", [
    (["--molecules", "4"], "--molecules: this experiment has surfaces"),
    (["--only", "SchNet"], "has no such run; it has 'PhysMol'"),
    (["--source", "nowhere"], "nowhere does not exist"),
])  # fmt: skip
def test_refusals(more, message, tmp_path, capsys):
    path = tmp_path / "mine.yml"
    path.write_text(CONTENT)
    ends(2, "experiments", path, "--data", tmp_path / "data", *more)
    assert message in capsys.readouterr().err


def test_data_need_a_source(tmp_path, capsys):
    (tmp_path / "mine.yml").write_text(CONTENT)
    ends(2, "experiments", tmp_path / "mine.yml", "--data", tmp_path / "data")
    assert "holds no data; give a folder of relaxations with --source" in capsys.readouterr().err
    ends(2, "experiments", "configs/qm9/experiments/table1.yml", "--source", tmp_path)
    assert "--source: this experiment has molecules" in capsys.readouterr().err
