"""The EMT set: OC20's shape, EMT's labels, and splits that keep their word."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from conftest import ends
from fairchem.core.datasets.lmdb_dataset import LmdbDataset

from ocp_physmol.datasets import emt

SPLITS = ["train", *(f"{part}_{kind}" for part in ("val", "test") for kind in emt.EVALUATION)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("emt") / "data"
    ends(0, "data", "emt", "--output", path, "--relaxations", 4, "--frames", 5)
    return path


def read(folder, task: str, split: str) -> list:
    """As fairchem reads it, without us."""
    dataset = LmdbDataset({"src": str(folder / task / split)})
    return [dataset[i] for i in range(len(dataset))]


def elements(entries) -> set[str]:
    numbers = torch.cat([e.atomic_numbers[e.tags != emt.ADSORBATE] for e in entries])
    return {Atoms([int(n)]).get_chemical_formula() for n in numbers.unique()}


def test_every_split_of_both_tasks(folder):
    for task in ("s2ef", "is2re"):
        for split in SPLITS:
            assert len(read(folder, task, split)) >= (4 if split == "train" else 1)


def test_labels_are_those_of_emt(folder):
    """Forces as they are; energies up to the references, the same for all frames of a system."""
    frames = [f for f in read(folder, "s2ef", "train") if f.sid == 0]
    references = []
    for frame in frames:
        atoms = Atoms(frame.atomic_numbers.int().numpy(), frame.pos.double().numpy(),
                      cell=frame.cell[0].double().numpy(), pbc=True, calculator=EMT())  # fmt: skip
        np.testing.assert_allclose(frame.force.numpy(), atoms.get_forces(), atol=2e-3)
        references.append(atoms.get_potential_energy() - frame.y)
    assert len(frames) > 1
    np.testing.assert_allclose(references, references[0], atol=1e-3)
    assert min(abs(f.y) for f in frames) < 10  # adsorption energies, not total ones


def test_relaxed_structures_are_minima(folder):
    for split in SPLITS:
        frames = {f.sid: f for f in read(folder, "s2ef", split)}  # the last of each
        for entry in read(folder, "is2re", split):
            last = frames[entry.sid]
            torch.testing.assert_close(entry.pos_relaxed, last.pos)
            assert entry.y_relaxed == pytest.approx(last.y)
            assert entry.y_relaxed < entry.y_init
            free = last.fixed == 0
            assert last.force[free].norm(dim=1).max() < 0.1
            moved = (entry.pos_relaxed - entry.pos).norm(dim=1)
            assert (moved[~free] == 0).all() and (moved[free] > 0).any()


def test_atoms_are_tagged_as_in_oc20(folder):
    for entry in read(folder, "is2re", "train"):
        assert set(entry.tags.tolist()) == {0, 1, 2}
        assert (entry.fixed[entry.tags == 2] == 0).all()
        height = {tag: entry.pos[entry.tags == tag, 2].mean() for tag in (0, 1, 2)}
        assert height[0] < height[1] < height[2]


def test_splits_hold_out_what_they_say(folder):
    for split in SPLITS:
        unseen = split.endswith(("ood_cat", "ood_both"))
        allowed = emt.UNSEEN_METALS if unseen else emt.METALS
        assert elements(read(folder, "is2re", split)) <= set(allowed)


@pytest.mark.slow
def test_the_seed_decides(folder, tmp_path):
    emt.make(tmp_path / "again", relaxations=4, frames=5, workers=1)
    for one, two in zip(read(folder, "s2ef", "val_id"), read(tmp_path / "again", "s2ef", "val_id")):
        assert one.keys() == two.keys() and one.y == two.y
        for key in ("pos", "cell", "atomic_numbers", "force", "tags", "fixed"):
            assert torch.equal(one[key], two[key])
    one, other = (emt.relax(emt.System("train", 0, seed)) for seed in (0, 1))
    assert len(one) != len(other)


def test_nothing_to_do(tmp_path, capsys):
    ends(2, "data", "emt", "--output", tmp_path / "none", "--relaxations", 0)
    assert "'--relaxations': 0 is not in the range x>=1" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
