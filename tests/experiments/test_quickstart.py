"""The quickstart from training to report, with seconds for minutes."""

import json

import pytest
from conftest import ends

from ocp_physmol.experiments import quickstart as module

KEYS = {"energy_mae_mev", "force_mae_ev_per_a", "delta_p_a", "converged_fraction"}


@pytest.mark.slow
def test_quickstart_writes_what_it_promises(qm9_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # in any folder
    ends(0, "quickstart", "--seconds", 3, "--molecules", 4, "--data", qm9_folder,
         "--output", "run")  # fmt: skip
    models = json.loads((tmp_path / "run/metrics.json").read_text())["models"]
    assert list(models) == ["PhysMol on GFN2-xTB", "energy only", "GFN2-xTB", "MMFF94"]
    assert all(model.keys() >= KEYS for model in models.values())
    seconds = [model["train_seconds"] for model in models.values()]
    assert min(seconds[:2]) >= 3 and seconds[2:] == [0, 0]
    assert models["GFN2-xTB"]["delta_p_a"] < models["energy only"]["delta_p_a"]
    assert (tmp_path / "run/recovery.png").stat().st_size > 20_000
    assert (tmp_path / "run/physmol_on_gfn2-xtb/checkpoints/run/best_checkpoint.pt").is_file()
    printed = capsys.readouterr().out
    assert f"{models['energy only']['energy_mae_mev']:.4g}" in printed and "do nothing" in printed


@pytest.mark.slow
def test_failed_training_is_reported_and_so_is_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "find_spec", lambda name: None)  # tblite is not installed
    (tmp_path / "report.json").touch()  # but no LMDBs
    ends(2, "quickstart", "--data", tmp_path, "--output", tmp_path / "run")
    printed, message = capsys.readouterr()
    assert "pip install tblite" in printed
    assert "training of '" in message and "log.txt ends with:\n" in message
    assert f"{tmp_path}/train" in message
