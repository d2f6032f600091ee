"""Second derivatives that were computed before are those of the molecule, in any batch."""

import torch
from ase.build import molecule
from conftest import to_batch

from ocp_physmol.pushes.elastic_network import ElasticNetwork
from ocp_physmol.pushes.remembered import RememberedHessians


def network(names, remembered=None) -> ElasticNetwork:
    batch = to_batch(*map(molecule, names))
    return ElasticNetwork(batch.pos, batch.atomic_numbers, batch.natoms, remembered)


def test_a_network_is_the_same_with_what_is_remembered():
    remembered = RememberedHessians()
    for names in (["CH3CH2OH", "CH4"], ["H2O", "CH4"], ["CH4", "C6H6", "CH3CH2OH"]):
        for _ in range(2):  # the second time all are known
            found, expected = network(names, remembered), network(names)
            torch.testing.assert_close(found.hessian(), expected.hessian())
            torch.testing.assert_close(found.root, expected.root)


def test_only_what_is_new_is_computed():
    asked = []

    def compute(places):
        asked.append(places.tolist())
        return torch.ones(len(places), 12, 12)

    remembered = RememberedHessians()
    pos, numbers = torch.rand(3, 4, 3), torch.ones(3, 4, dtype=torch.long)
    natoms = torch.tensor([4, 3, 2])
    found = remembered.find(pos[:2], numbers[:2], natoms[:2], compute)
    assert torch.equal(found, remembered.find(pos[:2], numbers[:2], natoms[:2], compute))
    again = remembered.find(pos, numbers, natoms, compute)
    assert asked == [[0, 1], [2]]
    assert torch.equal(again[0], found[0]) and again[1].sum() == 81
    remembered.find(pos[:1] + 1e-6, numbers[:1], natoms[:1], compute)  # another minimum
    remembered.find(pos[:1], numbers[:1] + 1, natoms[:1], compute)  # other atoms
    assert asked == [[0, 1], [2], [0], [0]]


def test_memory_is_limited():
    remembered = RememberedHessians(room=4 * 9 * 4)  # one atom in single precision, not two
    asked = []

    def compute(places):
        asked.append(len(places))
        return torch.ones(len(places), 6, 6)

    pos, numbers = torch.rand(2, 2, 3), torch.ones(2, 2, dtype=torch.long)
    for _ in range(2):
        remembered.find(pos, numbers, torch.tensor([1, 2]), compute)
    assert asked == [2, 1] and remembered.room == 4 * 9 * 3
