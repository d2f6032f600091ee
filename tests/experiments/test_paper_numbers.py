"""The paper's tables beside records with known numbers."""

import pytest
from conftest import REPOSITORY
from handmade import record

from ocp_physmol.experiments.experiment_files import read_experiment
from ocp_physmol.experiments.paper_numbers import (
    effects,
    paper_table,
    paper_table1,
    table1_csv,
    table2,
    table2_csv,
)


def ablation(**changed):
    """Records of all ten rows, 100 meV, 0.1 eV/A, 0.2 A, but for `changed` energies."""
    return [record(str(k), energy=changed.get(f"row{k}", 100.0)) for k in range(1, 11)]


def test_the_papers_numbers_are_as_printed():
    full = paper_table(1).loc["PhysMol (full model)"]
    assert full.tolist() == [15.16, 0.005, 0.025]
    assert paper_table(2).loc["10"].tolist() == [1, 1, 1, 1, 1, 15.16, 0.005, 0.025]
    assert paper_table1().texts.loc["SchNet"].tolist() == ["14.00", "2.64", "0.47"]
    assert paper_table1().texts.loc["SpinConv"].tolist() == ["12.00", "–", "–"]


def test_models_stand_beside_those_of_the_paper():
    frame = table1_csv([record("ours", energy=42.0, paper="SchNet"), record("alone")])
    first = frame.iloc[0]
    assert (first["energy_mae_mev"], first["paper_energy_mae_mev"]) == (42.0, 14.0)
    assert frame["paper_model"].tolist().count("SchNet") == 1
    assert len(frame) == 2 + 7 and frame["paper_delta_p_a"].isna().tolist()[1]
    assert "delta_p_0.1_a" in frame.columns


def test_directions_of_effects():
    content = effects(ablation(row2=90.0, row7=80.0))
    found = {(row.rows, row.number): row for row in content.texts.itertuples()}
    cls = found["1 → 2", "energy MAE (meV)"]
    assert (cls.Index, cls.paper, cls.here) == ("[CLS]", "11.83 → 9.03", "100.0 → 90.0")
    assert content.texts["same direction"].tolist() == ["yes", *["no"] * 6]  # mask made it worse
    assert content.best.sum().to_dict()["same direction"] == content.best.to_numpy().sum() == 1
    bound = found["9 → 10", "ΔP, pushed by 0.1 Å (Å)"]
    assert (bound.Index, bound.paper, bound.here) == ("Bound", "0.083 → 0.025", "0.200 → 0.200")


def test_rows_without_records_say_nothing():
    some = [r for r in ablation() if r["name"] != "10"]
    assert effects(some).texts["same direction"].tolist().count("–") == 6
    last = table2(some).texts.loc["10"].tolist()
    assert last == [*"✓✓✓✓✓", "–", "–", "–", "15.16", "0.005", "0.025"]
    assert table2_csv(some)["energy_mae_mev"].isna().sum() == 1
    assert table2_csv([])["paper_energy_mae_mev"].iloc[0] == pytest.approx(11.83)
    assert table2([record("another")]).texts["energy MAE (meV)"].tolist() == ["–"] * 10


def test_only_the_ten_rows_are_compared():
    records = [*ablation(row3=90.0), record("another", energy=1.0)]
    best = table2(records).best["energy MAE (meV)"]
    assert best[best].index.tolist() == ["3"]


def test_components_are_those_of_the_configs(monkeypatch, tmp_path):
    """The ablation's configs have on what the paper's table says."""
    monkeypatch.chdir(REPOSITORY)
    _, runs = read_experiment(REPOSITORY / "configs/qm9/experiments/ablation.yml", tmp_path)
    for number, row in paper_table(2).iterrows():
        config = runs[number].config
        terms = {name for entry in config["loss_functions"] for name in entry}
        assert bool(row["cls"]) == config["model"]["use_cls"]
        assert bool(row["ljp"]) == (config["model"]["readout"] == "physics")
        assert bool(row["mask"]) == ("masked_atoms" in terms)
        assert bool(row["force"]) == ("zero_force" in terms)
        assert bool(row["bound"]) == ("bound" in terms)
