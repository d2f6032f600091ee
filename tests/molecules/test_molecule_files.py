"""Files of molecules and SMILES are read, and written where they ended in the same format."""

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem

from ocp_physmol.errors import UserError
from ocp_physmol.molecules.structures import read, write

ETHANOL = [molecule("CH3CH2OH"), molecule("CH3CH2OH")]


def sdf(path, positions=True):
    """Ethanol without its hydrogens, in a file of RDKit's."""
    mol = Chem.MolFromSmiles("CCO")
    if positions:
        conformer = Chem.Conformer(3)
        conformer.SetPositions(np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [2.0, 1.3, 0.2]]))
        mol.AddConformer(conformer)
    with Chem.SDWriter(str(path)) as writer:
        writer.write(mol)


@pytest.mark.parametrize("suffix", ["xyz", "extxyz", "traj", "pdb", "gen"])
def test_formats_of_ase(suffix, tmp_path):
    images = ETHANOL if suffix != "gen" else ETHANOL[:1]
    ase.io.write(tmp_path / f"ethanol.{suffix}", images)
    found = read([tmp_path / f"ethanol.{suffix}"], [])
    assert len(found) == len(images) and found[0].name.startswith("ethanol")
    results = {"energy": -1.5, "forces": np.full((9, 3), 0.25)}
    (path,) = write(tmp_path / "out", [(s, s.atoms, results) for s in found])
    assert path == tmp_path / f"out/ethanol.{suffix}"
    again = ase.io.read(path, index=":")
    for before, after in zip(images, again):
        assert list(before.symbols) == list(after.symbols)
        np.testing.assert_allclose(before.positions, after.positions, atol=2e-3)  # as PDB has them
    if suffix in ("xyz", "extxyz", "traj"):
        assert again[0].get_potential_energy() == -1.5 and (again[0].get_forces() == 0.25).all()


def test_sdf_keeps_its_bonds_and_gets_its_hydrogens(tmp_path):
    sdf(tmp_path / "ethanol.sdf")
    (ethanol,) = read([tmp_path / "ethanol.sdf"], [])
    assert ethanol.atoms.get_chemical_formula() == "C2H6O"
    np.testing.assert_allclose(ethanol.atoms.positions[1], [1.5, 0, 0], atol=1e-3)
    ethanol.atoms.positions += 1.0
    ((path),) = write(tmp_path / "out", [(ethanol, ethanol.atoms, {"energy": -1.5, "forces": 0})])
    (after,) = Chem.SDMolSupplier(str(path), removeHs=False)
    assert after.GetNumBonds() == 8 and after.GetProp("energy_eV") == "-1.500000"
    np.testing.assert_allclose(after.GetConformer().GetPositions()[1], [2.5, 1, 1], atol=1e-3)


def test_smiles_are_placed_always_alike(tmp_path):
    first, second = (read([], ["c1ccccc1O"])[0] for _ in range(2))
    assert first.atoms.get_chemical_formula() == "C6H6O" and first.file is None
    np.testing.assert_array_equal(first.atoms.positions, second.atoms.positions)
    sdf(tmp_path / "flat.sdf", positions=False)
    (flat,) = read([tmp_path / "flat.sdf"], [])
    assert np.ptp(flat.atoms.positions[:, 2]) > 0.5  # Angstrom: it was placed, too
    (path,) = write(tmp_path, [(first, first.atoms, {"energy": 0.0, "forces": np.zeros((13, 3))})])
    assert path == tmp_path / "c1ccccc1O.xyz" and len(ase.io.read(path)) == 13


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.xyz", None, "none.xyz does not exist"),
        ("text.xyz", "no molecule", "text.xyz cannot be read"),
        ("text.abc", "no molecule", "text.abc cannot be read"),
        ("empty.xyz", "", "empty.xyz cannot be read"),
        ("text.sdf", "no molecule\n", "text.sdf holds a molecule that RDKit cannot read"),
        ("empty.sdf", "", "empty.sdf holds a molecule that RDKit cannot read"),
    ],
)
def test_unfit_files(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read([tmp_path / name], [])


@pytest.mark.parametrize("text", ["", "C(", "hello"])
def test_unfit_smiles(text):
    with pytest.raises(UserError, match="is no molecule for RDKit"):
        read([], [text])


def test_nothing_to_do_and_two_of_a_name(tmp_path):
    with pytest.raises(UserError, match="there is nothing to do"):
        read([], [])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        ase.io.write(tmp_path / folder / "ethanol.xyz", ETHANOL[0])
    found = read([tmp_path / "a/ethanol.xyz", tmp_path / "b/ethanol.xyz"], [])
    with pytest.raises(UserError, match=r"two files are called ethanol.xyz"):
        write(tmp_path, [(s, s.atoms, {"energy": 0, "forces": np.zeros((9, 3))}) for s in found])
