"""Structures that must not be learned from: each is refused with its file, its entry and a cure."""

import pytest
import torch
from ase import Atoms
from conftest import to_data
from entries import dataset, entry, with_missing

from ocp_physmol.errors import UserError


def moved(first, second):
    data = to_data(Atoms("OH2", [[0, 0, 0], first, second]))
    data.energy, data.forces = torch.tensor([-1.0]), torch.zeros(3, 3)
    return data


BAD = {
    "no energy": (lambda: with_missing("energy"), "has no 'energy'"),
    "no positions": (lambda: with_missing("pos"), "has no 'pos'"),
    "energy None": (lambda: entry(energy=None), "has no 'energy'"),
    "energy NaN": (lambda: entry(energy=torch.tensor([float("nan")])), "'energy' holds NaN"),
    "force infinite": (lambda: entry(forces=torch.full((3, 3), torch.inf)), "'forces' holds NaN"),
    "no atoms": (lambda: entry(pos=torch.zeros(0, 3)), "'pos' is empty"),
    "element 0": (lambda: entry(atomic_numbers=torch.tensor([8, 0, 1])), "holds 0"),
    "element 119": (lambda: entry(atomic_numbers=torch.tensor([8.0, 1, 119])), "holds 119"),
    "sizes differ": (lambda: entry(pos=torch.rand(2, 3)), "2 positions, 3 atomic_numbers"),
    "atoms in one place": (lambda: moved([0, 0, 1.0], [0, 0, 1.01]), "atoms 1 and 2 are 0.010"),
    "cell NaN": (lambda: entry(cell=torch.full((1, 3, 3), torch.nan)), "'cell' holds NaN"),
    "cell a box": (lambda: entry(cell=torch.rand(3)), r"'cell' has the shape \[3\]"),
    "relaxed NaN": (
        lambda: entry(pos_relaxed=torch.full((3, 3), torch.nan)), "'pos_relaxed' holds NaN"
    ),
    "cell in a plane": (lambda: entry(cell=torch.ones(1, 3, 3)), "'cell' lie in a plane"),
    "positions are text": (lambda: entry(pos="x"), "'pos' is of type str, not a tensor"),
    "positions are whole": (lambda: entry(pos=torch.eye(3).long()), "'pos' is of type torch.int64"),
    "numbers complex": (lambda: entry(atomic_numbers=torch.ones(3) * 1j), "is complex"),
    "half an element": (lambda: entry(atomic_numbers=torch.tensor([8, 1.5, 1])), "holds 1.5"),
    "two energies": (lambda: entry(energy=torch.ones(2)), r"'energy' has the shape \[2\]"),
    "forces of two atoms": (
        lambda: entry(forces=torch.zeros(2, 3)), r"has the shape \[2, 3\], not \[3, 3\]"
    ),
    "tags a list": (lambda: entry(tags=[0, 0, 0]), "'tags' is of type list"),
    "one position": (lambda: entry(pos=torch.tensor(1.0)), r"'pos' has the shape \[\], not"),
    "a huge sid": (lambda: entry(sid=2**64), "not one whole number or text"),
    "two sids": (lambda: entry(sid=torch.tensor([1, 2])), "not one whole number or text"),
    "natoms text": (lambda: entry(natoms="3"), "'natoms' is of type str"),
    "relaxed partly": (
        lambda: entry(pos_relaxed=torch.rand(2, 3)), r"'pos_relaxed' has the shape \[2, 3\]"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_unfit_entries_are_refused(name, tmp_path):
    make, message = BAD[name]
    data = dataset(tmp_path, entry(), make())
    assert data[0].natoms == 3
    with pytest.raises(UserError, match=message) as error:
        data[1]
    assert str(tmp_path / "train") in str(error.value) and "entry 1" in str(error.value)


RELAXED = {"pos_relaxed": torch.rand(3, 3)}
UNLIKE = {
    "one lacks a key": (
        entry(**RELAXED),
        entry(),
        "lacks 'pos_relaxed', which the first entry has",
    ),
    "one has a key": (entry(), entry(**RELAXED), "has 'pos_relaxed', which the first entry lacks"),
    "sid is text": (entry(sid=1), entry(sid="a"), "'sid' is of type str, .* first entry a number"),
    "energy is a number": (
        entry(),
        entry(energy=-1.0),
        "'energy' is a number, .* first entry a te",
    ),
    "another width": (
        entry(stress=torch.zeros(1, 6)),
        entry(stress=torch.zeros(1, 9)),
        r"'stress' is a tensor of shape \[n, 9\], that of the first entry .* \[n, 6\]",
    ),
    "own key": (
        entry(x=torch.ones(3)),
        entry(x=[1]),
        r"'x' is of type list, .* a tensor of shape \[n\]",
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_entries_that_make_no_batch(name, tmp_path):
    first, other, message = UNLIKE[name]
    mixed = dataset(tmp_path, first, other)
    assert mixed[0].natoms == 3
    with pytest.raises(UserError, match=f"entry 1: {message}"):
        mixed[1]
