"""Small experiments from the file to records, a second time, and to the report."""

import json
import subprocess

import pytest
from conftest import REPOSITORY, ends, run_command

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset

SMALL = "model: {hidden_channels: 16, num_layers: 1, num_rbf: 8}"
CONTENT = f"""
title: Small runs
seconds: 2
runs:
  small PhysMol: {{config: configs/qm9/quickstart.yml, {SMALL}, note: tiny}}
  on GFN2: {{config: configs/qm9/on_gfn2.yml, {SMALL}}}
  EMT: {{calculator: "ase.calculators.emt:EMT"}}
  five heads: {{config: configs/qm9/quickstart.yml, model: {{num_heads: 5}}}}
"""


@pytest.fixture(scope="module")
def experiment(qm9_folder, tmp_path_factory):
    """The folder of an experiment, and the arguments that start it."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "mine.yml").write_text(CONTENT)
    return folder, [
        str(folder / "mine.yml"), "--data", str(qm9_folder), "--molecules", "4",
        "--runs", str(folder / "runs"), "--records", str(folder / "records"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(experiment):
    """The same folder when it is done, and what was printed."""
    return experiment[0], run_command("experiments", *experiment[1])


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.slow
def test_one_run_fails_and_the_other_goes_on(finished):
    _, result = finished
    assert result.returncode == 2
    assert "error: 1 of 4 runs failed: 'five heads'" in result.stdout
    assert "model.num_heads: 5" in result.stdout
    assert "small PhysMol" in result.stdout and "energy MAE (meV)" in result.stdout


@pytest.mark.slow
def test_a_record_says_what_was_done_and_measured(finished):
    path = finished[0] / "records/mine/small_PhysMol.json"
    record = json.loads(path.read_text())
    assert (record["note"], record["seconds"]["budget"]) == ("tiny", 2)
    assert record["seconds"]["used"] >= 2 and record["steps"] > 0
    assert record["config"]["complete"]["model"]["hidden_channels"] == 16
    assert "--only 'small PhysMol' --molecules 4 --data " in record["command"]
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert record["git"]["revision"] == (revision.stdout.strip() or None)
    assert len(record["sids"]) == 4 and set(record["recovery"]) == {"0", "0.05", "0.1"}
    assert record["bond_parameters"]["pairs"] and path.stat().st_size < 120_000


@pytest.mark.slow
def test_labels_are_made_for_a_model_that_needs_them(finished):
    record = json.loads((finished[0] / "records/mine/on_GFN2.json").read_text())
    train = record["config"]["complete"]["dataset"]["train"]["src"]
    assert train.endswith("-gfn2/train") and PhysMolLmdbDataset({"src": train})[0].gfn2_energy
    # GFN2-xTB alone has its minima near those of the data; two seconds of training have not
    assert (
        record["recovery"]["0"]["delta_p_a"] < 0.1 and record["recovery"]["0.1"]["delta_p_a"] < 0.1
    )
    assert record["vibrations"]["minimum"]["median_ratio"] == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_a_calculator_has_a_record_and_no_training(finished):
    record = json.loads((finished[0] / "records/mine/EMT.json").read_text())
    assert record["seconds"] == {"budget": 0, "used": 0}
    assert record["steps"] == record["parameters"] == 0
    assert record["config"]["complete"] == {"calculator": "ase.calculators.emt:EMT"}
    assert record["errors"]["energy_mae_mev"] > 0 and len(record["sids"]) == 4


@pytest.mark.slow
def test_records_become_a_report(finished, tmp_path):
    folder, _ = finished
    ends(0, "report", "--records", folder / "records", "--output", tmp_path)
    assert "small PhysMol" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(finished, experiment, capsys):
    folder, again = finished[0], [*experiment[1], "--only", "small PhysMol"]
    path = folder / "records/mine/small_PhysMol.json"
    log = folder / "runs/mine/small_PhysMol/log.txt"
    before = path.read_bytes(), log.read_text()
    ends(0, "experiments", *again)
    assert (path.read_bytes(), log.read_text()) == before
    assert "small PhysMol" in capsys.readouterr().out


def test_another_config_needs_again(experiment, tmp_path, capsys):
    run = tmp_path / "mine/five_heads"
    run.mkdir(parents=True)
    (run / "config.yml").write_text("model: {}\n")
    ends(2, "experiments", *experiment[1], "--runs", tmp_path, "--only", "five heads")
    assert "add --again to train it anew" in capsys.readouterr().err


def test_unknown_runs_are_refused(experiment, capsys):
    ends(2, "experiments", *experiment[1], "--only", "big")
    assert (
        "has no such run; it has 'small PhysMol', 'on GFN2', 'EMT', 'five heads'"
        in capsys.readouterr().err
    )
