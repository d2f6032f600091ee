"""The demonstration on OC20-shaped data, with seconds of training."""

import json

import pytest
from conftest import run_command

from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.experiments import oc20_demo


def test_data_that_were_made_otherwise(tmp_path):
    (tmp_path / "report.json").write_text('{"seed": 0, "relaxations": 30}')
    oc20_demo._require_same(tmp_path, {"seed": 0, "relaxations": 30})
    with pytest.raises(UserError, match="was made with seed 0, not 1; choose another --data"):
        oc20_demo._require_same(tmp_path, {"seed": 1, "relaxations": 30})
    oc20_demo._require_same(tmp_path / "nowhere", {"seed": 1})


@pytest.mark.slow
def test_every_task_is_scored_on_every_split(emt_folder, tmp_path):
    result = run_command(
        "oc20-demo", "--seconds", 2, "--is2re-seconds", 2, "--data", emt_folder, "--output", "demo",
        folder=tmp_path,  # any will do
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    content = json.loads((tmp_path / "demo/scores.json").read_text())
    expected = {f"{task} {part} {model}" for task in ("s2ef", "is2re") for part in ("val", "test")
                for model in oc20_demo.MODELS}  # fmt: skip
    expected |= {"is2re-relaxations test physmol", "is2rs test physmol"}
    assert set(content["scores"]) == expected
    assert all(set(scores) == set(SPLITS) for scores in content["scores"].values())
    assert all(steps > 0 for steps in content["training"]["steps"]["s2ef"].values())
    assert "EFwT (%)" in result.stdout
    assert len(list((tmp_path / "demo").glob("*/*.npz"))) == len(expected)
