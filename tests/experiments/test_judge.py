"""What a record holds of models whose minima are known."""

import numpy as np
import pytest
from springs import Springs

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError
from ocp_physmol.evaluation import vibrations
from ocp_physmol.experiments import judge
from ocp_physmol.relaxation.predictor import open_labelled


@pytest.fixture(scope="module")
def structures(qm9_folder):
    return list(open_labelled(qm9_folder / "test"))


def test_springs_stay_and_come_back(structures):
    found = judge.recoveries(Springs(structures), structures)
    assert list(found) == ["0", "0.05", "0.1"]
    for noise, result in found.items():
        assert result["delta_p_a"] < 0.02 and result["converged_fraction"] == 1
        assert result["do_nothing_delta_p_a"] == pytest.approx(1.5 * float(noise), abs=0.05)
        assert result["converged"] == [1] * len(structures) and "relaxed" not in result


def test_pictures_say_where_molecules_are_from(structures, qm9_folder):
    everything = [s for split in judge.SPLITS for s in open_labelled(qm9_folder / split)]
    drawn = judge.pictures(Springs(everything), qm9_folder, structures)
    largest = max(int((s.atomic_numbers > 1).sum()) for s in structures)
    heavy = [sum(number > 1 for number in d["numbers"]) for d in drawn["recovery"]]
    assert heavy[-1] == largest and drawn["recovery"][-1]["split"] == "test"
    for one in [d for task in drawn.values() for d in task]:
        np.testing.assert_allclose(np.mean(one["reference"], axis=0), 0, atol=1e-3)
        assert np.shape(one["reference"]) == np.shape(one["start"]) == np.shape(one["end"])
        shift = np.linalg.norm(one["end"] - one["reference"], axis=1).mean()
        assert shift == pytest.approx(one["displacement"], abs=2e-3)


def test_data_without_frequencies_cannot_be_judged(qm9_folder, monkeypatch):
    class Bare(PhysMolLmdbDataset):
        def __getitem__(self, index):
            entry = super().__getitem__(index)
            del entry.frequencies
            return entry

    vibrations.require_frequencies(qm9_folder / "test")
    monkeypatch.setattr(vibrations, "open_labelled", lambda src: Bare({"src": str(src)}))
    with pytest.raises(UserError, match="holds no 'frequencies'; make it anew with"):
        vibrations.require_frequencies(qm9_folder / "test")
