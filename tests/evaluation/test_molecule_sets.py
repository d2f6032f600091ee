"""Which molecules are relaxed, on the first 40 of QM9."""

import pytest
import torch

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.molecule_sets import by_gdb_index, paper_set
from ocp_physmol.relaxation.predictor import open_labelled


@pytest.fixture(scope="module")
def structures(qm9_folder):
    return open_labelled(qm9_folder / "train")


def test_smallest_first_then_random_ones_of_the_rest(structures):
    chosen = paper_set(structures, smallest=5, random=6)
    sizes = [(structures[i].natoms, structures[i].sid) for i in range(len(structures))]
    assert [sizes[i] for i in chosen[:5]] == sorted(sizes)[:5]
    assert len(set(chosen)) == 11
    assert chosen == paper_set(structures, smallest=5, random=6)
    other = paper_set(structures, smallest=5, random=6, seed=1)
    assert other[:5] == chosen[:5] and other[5:] != chosen[5:]


def test_small_data_are_taken_whole(structures):
    for smallest, random in ((128, 128), (20, 128), (0, 99)):
        assert sorted(paper_set(structures, smallest, random)) == list(range(len(structures)))


def test_lookup_by_gdb_index(structures):
    wanted = [structures[7].sid, structures[0].sid]
    assert [s.sid for s in by_gdb_index(structures, wanted)] == wanted
    with pytest.raises(UserError, match=r"train has no structure with the sid 999; draw another"):
        by_gdb_index(structures, [999])
    named = structures[0].clone()
    named.sid = torch.tensor(17)
    assert by_gdb_index([named], [17]) == [named]
