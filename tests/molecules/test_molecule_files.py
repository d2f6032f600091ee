"""Files of molecules and SMILES are read, and written where they ended in the same format."""

import gzip

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from rdkit import Chem
from rdkit.Chem import rdDepictor

from ocp_physmol.errors import UserError
from ocp_physmol.geometry import bonds
from ocp_physmol.molecules import structures
from ocp_physmol.molecules.output import Output

ETHANOL = [molecule("CH3CH2OH"), molecule("CH3CH2OH")]


def read(files, smiles):
    """Of what is fit as a whole."""
    found, unfit = structures.read(files, smiles)
    assert not unfit
    return found


def ended(relaxed, energy=-1.5):
    """Structures where a relaxation has left them."""
    for structure in relaxed:
        forces = np.full((len(structure.atoms), 3), 0.25)
        structure.atoms.calc = SinglePointCalculator(structure.atoms, energy=energy, forces=forces)
        structure.atoms.info |= {"method": "mmff94", "converged": True}
    return [(structure, structure.atoms) for structure in relaxed]


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
    (path,) = Output(tmp_path / "out", found).write(ended(found))
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
    (path,) = Output(tmp_path / "out", [ethanol]).write(ended([ethanol]))
    (after,) = Chem.SDMolSupplier(str(path), removeHs=False)
    assert after.GetNumBonds() == 8 and after.GetProp("energy_eV") == "-1.500000"
    assert after.GetProp("method") == "mmff94" and after.GetProp("converged") == "True"
    np.testing.assert_allclose(after.GetConformer().GetPositions()[1], [2.5, 1, 1], atol=1e-3)


def test_smiles_are_placed_always_alike(tmp_path):
    first, second = (read([], ["c1ccccc1O"])[0] for _ in range(2))
    assert first.atoms.get_chemical_formula() == "C6H6O" and first.file is None
    np.testing.assert_array_equal(first.atoms.positions, second.atoms.positions)
    sdf(tmp_path / "flat.sdf", positions=False)
    (flat,) = read([tmp_path / "flat.sdf"], [])
    assert np.ptp(flat.atoms.positions[:, 2]) > 0.5  # Angstrom: it was placed, too
    (path,) = Output(tmp_path, [first]).write(ended([first]))
    assert path == tmp_path / "c1ccccc1O.xyz" and len(ase.io.read(path)) == 13


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.xyz", None, "none.xyz does not exist"),
        ("text.xyz", "no molecule", "text.xyz cannot be read"),
        ("text.abc", "no molecule", "text.abc cannot be read"),
        ("empty.xyz", "", "empty.xyz cannot be read"),
        ("text.sdf", "no molecule\n", "text.sdf holds no molecule"),
        ("text.sdf.gz", "no molecule\n", "text.sdf.gz cannot be read"),
        ("empty.sdf", "", "empty.sdf holds no molecule"),
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


@pytest.mark.parametrize("text", ["[NH4+]", "CC(=O)[O-]"])
def test_charges_are_not_ignored(text, tmp_path):
    with pytest.raises(UserError, match="has the charge"):
        read([], [text])
    ion = molecule("CH4")
    ion.set_initial_charges([1.0, 0, 0, 0, 0])
    ase.io.write(tmp_path / "ion.traj", ion)
    with pytest.raises(UserError, match=r"ion.traj has the charge 1"):
        read([tmp_path / "ion.traj"], [])
    for given, reason in (
        ("charge=2", "charge 2"),
        ("charge=nan", "nan"),
        ("charge=x", "charge x"),
        ("Charge=1", "charge 1"),
        ("net_charge=-1", "charge -1"),
        ("-1 2", "charge -1"),
        ("charge: 1 mult: 1", "charge 1"),
    ):
        (tmp_path / "ion.xyz").write_text(f"1\n{given}\nHe 0 0 0\n")
        with pytest.raises(UserError, match=f"ion.xyz has the .*{reason}"):
            read([tmp_path / "ion.xyz"], [])
    for given in ("0 1", "charge=0", "frame 1 2", "1.5 2.5", ""):
        (tmp_path / "neutral.xyz").write_text(f"1\n{given}\nHe 0 0 0\n")
        assert len(read([tmp_path / "neutral.xyz"], [])) == 1
    assert read([], ["C[N+](=O)[O-]"])[0].atoms.get_chemical_formula() == "CH3NO2"


def test_what_is_unfit_does_not_end_the_rest(tmp_path):
    """Of a library: each record that is left out is named, and why."""
    with Chem.SDWriter(str(tmp_path / "library.sdf")) as writer:
        for title, smiles in (("ethanol", "CCO"), ("an ion", "C[NH3+]"), ("", "CC")):
            molecule_ = Chem.MolFromSmiles(smiles)
            molecule_.SetProp("_Name", title)
            writer.write(molecule_)
    found, unfit = structures.read([tmp_path / "library.sdf"], ["[Cl-]", "O"])
    assert [s.name for s in found] == ["ethanol", "library-2", "O"]
    assert [s.name for s, _ in unfit] == ["library-1", structures._of_text("[Cl-]")]
    assert "structure 1 (from 0 on), has the charge 1;" in str(unfit[0][1])
    with pytest.raises(UserError, match="has the charge -1"):
        structures.read([], ["[Cl-]"])


def test_cages_are_placed():
    """[2.2]paracyclophane, for which RDKit's knowledge of torsions finds no place."""
    (cage,) = read([], ["C1Cc2ccc(cc2)CCc2ccc1cc2"])
    distances = cage.atoms.get_all_distances()[np.triu_indices(32, k=1)]
    assert distances.min() > 0.8 and len(bonds(cage.atoms.numbers, cage.atoms.positions)) > 30


def test_held_atoms_stay_held(tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.set_constraint(FixAtoms([0, 1]))
    ase.io.write(tmp_path / "held.xyz", atoms, columns=["symbols", "positions", "move_mask"])
    found = read([tmp_path / "held.xyz"], [])
    (path,) = Output(tmp_path / "out", found).write(ended(found))
    again = ase.io.read(path)
    assert again.constraints[0].index.tolist() == [0, 1]
    assert again.get_forces(apply_constraint=False)[0, 0] == 0.25
    assert again.info["method"] == "mmff94"


@pytest.mark.parametrize(("name", "content", "message"), [
    ("heavy.xyz", "1\n\nD 0 0 0\n", "'D' is no symbol of an element"),
    ("a.smi", "CCO\n", "ASE knows no such format; convert it to XYZ or SDF, or give SMILES"),
])  # fmt: skip
def test_files_that_ase_does_not_read(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read([tmp_path / name], [])


def test_isotopes_and_elements(tmp_path):
    (heavy,) = read([], ["[2H]O[2H]"])
    assert sorted(heavy.atoms.get_masses().round(1)) == [2.0, 2.0, 16.0]
    (labelled,) = read([], ["[2H]CCl"])  # all others are the isotopes that spectra are of
    assert labelled.atoms.get_masses().round(3)[:3].tolist() == [2.014, 12.0, 34.969]
    with pytest.raises(UserError, match="atoms of no element"):
        read([], ["*CC"])


def test_names_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="there is nothing to do"):
        read([], [])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        ase.io.write(tmp_path / folder / "m.xyz", ETHANOL)
    files = [tmp_path / "a/m.xyz", tmp_path / "b/m.xyz"]
    found = read(files, ["C#C", "C.C", "CO", "CO"])
    ethyne, methanes = (structures._of_text(text) for text in ("C#C", "C.C"))
    names = ["m-0", "m-1", "m-2-0", "m-2-1", ethyne, methanes, "CO", "CO-2"]
    assert [s.name for s in found] == names
    written = Output(tmp_path, found).write(ended(found))
    labels = ["m", "m-2", ethyne, methanes, "CO", "CO-2"]
    assert ethyne.startswith("C_C-") and ethyne != methanes  # also in commands of their own
    assert [path.name for path in written] == [f"{label}.xyz" for label in labels]
    assert ase.io.read(tmp_path / "m-2.xyz", index=1).info["name"] == "m-2-1"


def test_drawings_with_all_atoms_are_placed(tmp_path):
    """As PubChem's are; a flat molecule whose file says that it has three dimensions stays."""
    for name, dimension in (("drawn", "2D"), ("flat", "3D")):
        mol = Chem.AddHs(Chem.MolFromSmiles("C=O"))
        rdDepictor.Compute2DCoords(mol)
        block = Chem.MolToMolBlock(mol).splitlines()
        block[1] = block[1].replace("2D", dimension)
        (tmp_path / f"{name}.sdf").write_text("\n".join(block) + "\n$$$$\n")
    drawn, flat = read([tmp_path / "drawn.sdf", tmp_path / "flat.sdf"], [])
    assert np.abs(drawn.atoms.positions[:, 2]).max() > 1e-3
    assert np.abs(flat.atoms.positions[:, 2]).max() == 0


def test_packed_sdf(tmp_path):
    sdf(tmp_path / "two.sdf")
    content = (tmp_path / "two.sdf").read_bytes()
    with gzip.open(tmp_path / "two.sdf.gz", "wb") as file:
        file.write(content + content)
    found = read([tmp_path / "two.sdf.gz"], [])
    assert [s.atoms.get_chemical_formula() for s in found] == ["C2H6O"] * 2
    (tmp_path / "blank.sdf").write_bytes(content + b"\n \n")
    assert len(read([tmp_path / "blank.sdf"], [])) == 1
    packed = bytearray((tmp_path / "two.sdf.gz").read_bytes())
    packed[30:60] = bytes(30)
    (tmp_path / "damaged.sdf.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"damaged.sdf.gz cannot be read"):
        read([tmp_path / "damaged.sdf.gz"], [])
    (path,) = Output(tmp_path / "out", found).write(ended(found))
    assert path.name == "two.sdf" and len(Chem.SDMolSupplier(str(path))) == 2
    with gzip.open(tmp_path / "two.sdf.gz", "wb") as file:
        file.write(content + b"broken\n$$$$\n")
    _, ((_, problem),) = structures.read([tmp_path / "two.sdf.gz"], [])
    assert "two.sdf.gz, structure 1 (from 0 on), is no molecule" in str(problem)


def test_molecules_of_one_smiles_are_apart():
    (pair,) = read([], ["O.O.c1ccccc1"])
    assert pair.atoms.get_chemical_formula() == "C6H10O2"
    assert len(bonds(pair.atoms.numbers, pair.atoms.positions)) == 2 + 2 + 12
    first, second = pair.atoms.positions[0], pair.atoms.positions[1]  # the oxygens
    assert 2.5 < np.linalg.norm(first - second) < 6.0


def test_different_molecules_in_a_format_of_one(tmp_path):
    """ASE would write all frames of a PDB with the elements of the first."""
    ase.io.write(tmp_path / "m.pdb", ETHANOL[0])
    ase.io.write(tmp_path / "n.pdb", molecule("CH4"))
    text = "".join(
        f"MODEL {k}\n" + "".join(x for x in (tmp_path / n).read_text().splitlines(True)
                                 if x.startswith("ATOM")) + "ENDMDL\n"
        for k, n in enumerate(("m.pdb", "n.pdb"), 1)
    )  # fmt: skip
    (tmp_path / "both.pdb").write_text(text)
    found = read([tmp_path / "both.pdb"], [])
    (path,) = Output(tmp_path / "out", found).write(ended(found))
    assert path.name == "both.extxyz"
    assert [len(atoms) for atoms in ase.io.read(path, index=":")] == [9, 5]


def test_inputs_stay(tmp_path):
    ase.io.write(tmp_path / "m.xyz", ETHANOL[0])
    with pytest.raises(UserError, match=r"m.xyz is read and would be replaced; choose another"):
        Output(tmp_path, read([tmp_path / "m.xyz"], []))
    with pytest.raises(UserError, match="out is a folder; give the files in it"):
        (tmp_path / "out").mkdir()
        read([tmp_path / "out"], [])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output .*file cannot be written to"):
        Output(tmp_path / "file", read([tmp_path / "m.xyz"], []))


def test_formats_that_cannot_be_kept(tmp_path):
    """Packed files are written unpacked; what ASE reads but does not write, as extended XYZ."""
    ase.io.write(tmp_path / "m.pdb", ETHANOL[0])
    with gzip.open(tmp_path / "n.pdb.gz", "wb") as file:
        file.write((tmp_path / "m.pdb").read_bytes())
    ase.io.write(tmp_path / "m.db", ETHANOL[0])
    found = read([tmp_path / "n.pdb.gz", tmp_path / "m.db"], [])
    written = Output(tmp_path / "out", found).write(ended(found))
    assert [path.name for path in written] == ["n.pdb", "m.extxyz"]
    assert all(len(ase.io.read(path)) == 9 for path in written)
