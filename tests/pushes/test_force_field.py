"""The force field: its constants, and the curvature that it gives molecules."""

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from conftest import SAMPLE_CSV, to_batch

from ocp_physmol.datasets import qm9
from ocp_physmol.harmonic import harmonic_frequencies
from ocp_physmol.pushes.elastic_network import ElasticNetwork
from ocp_physmol.pushes.force_field import CONSTANTS, constants, kind_of


def network(*structures):
    batch = to_batch(*structures)
    return ElasticNetwork(batch.pos, batch.atomic_numbers, batch.natoms)


def test_kinds_have_names_and_numbers():
    names = CONSTANTS.read_text()
    assert len(constants()) == names.count(":") > 100
    assert 30 < constants()[kind_of("stretch", 1, 6)] < 45  # eV/A^2, of C-H
    triple, single = (constants()[kind_of("stretch", 6, z)] for z in (7, 9))
    assert triple > single > 0


def test_a_molecule_is_the_same_in_any_batch_and_order():
    ethanol, water = molecule("CH3CH2OH"), molecule("H2O")
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    first = network(ethanol).hessian()[0].view(9, 3, 9, 3)
    second = network(water, ethanol[order.tolist()]).hessian()[1].view(9, 3, 9, 3)
    torch.testing.assert_close(second, first[order][:, :, order])


@pytest.mark.parametrize(("name", "known"), [("CH3CH2OH", True), ("SiH4", False), ("CH3SH", False)])
def test_elements_without_constants_are_left_to_springs(name, known):
    springs = network(molecule(name))
    assert bool((springs._lacking != 0).any()) == known


def test_atoms_in_impossible_places_are_left_to_springs():
    """Two hydrogen atoms in one place, and three neighbours on a line."""
    for positions in (
        [[0, 0, 0], [0, 0, 1.1], [0, 0, 1.1]],
        [[0, 0, 0.1], [-1, 0, 0], [0, 0, 0], [1, 0, 0]],
    ):
        numbers = [6] + [1] * (len(positions) - 1)
        springs = network(Atoms(numbers, positions))
        assert (springs._lacking == 0).all() and torch.isfinite(springs.hessian()).all()


def test_frequencies_are_near_those_of_dft():
    """Those of the sample of QM9, all modes; springs alone are off by 107 /cm."""
    errors = []
    for one in qm9.read_csv(SAMPLE_CSV):
        if len(one.numbers) < 4:
            continue
        atoms = Atoms(one.numbers, one.positions)
        hessian = network(atoms).hessian()[0].double().numpy()
        atoms.set_masses("most_common")
        found = harmonic_frequencies(atoms, hessian, len(one.frequencies))
        errors.append(torch.tensor(found) - torch.tensor(one.frequencies).sort().values)
    assert float(torch.cat(errors).abs().mean()) < 60
