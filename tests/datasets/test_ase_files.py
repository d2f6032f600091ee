"""The converter of ASE's files: exact labels, honest splits, and a word on all that is left out."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import Trajectory, read, write
from ase.optimize import LBFGS
from conftest import ends, small_model
from fairchem.core.datasets import data_list_collater

from ocp_physmol.datasets import ase_files
from ocp_physmol.errors import UserError
from ocp_physmol.relaxation.predictor import open_labelled

MOLECULES = ("H2O", "CH4", "NH3", "CO")


def labelled(atoms, seed=0, **changes):
    """Rattled, with EMT's labels or others in their place; None for no such label."""
    atoms.rattle(0.05, seed=seed)
    atoms.calc = EMT()
    forces = atoms.get_forces(apply_constraint=False)
    labels = {"energy": atoms.get_potential_energy(), "forces": forces, **changes}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def relax(path, metal="Cu", steps=9):
    """A trajectory of O on a slab whose lowest layer is fixed, periodic in two directions."""
    slab = fcc111(metal, (2, 2, 2), vacuum=6.0)
    add_adsorbate(slab, "O", 1.8, "fcc")
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 2))
    slab.rattle(0.1, seed=1)
    slab.calc = EMT()
    LBFGS(slab, trajectory=str(path), logfile=None).run(fmax=1e-6, steps=steps)


def write_bad(folder):
    """Ten ways to be left out."""
    h2, far = molecule("H2"), np.full((2, 3), 40.0)
    close = Atoms("H2", [[0, 0, 0], [0, 0, 0.05]])
    flat = Atoms("H2", h2.positions, cell=[[5, 0, 0], [10, 0, 0], [0, 0, 5]], pbc=True)
    ghost, shared, lost = Atoms("XH", h2.positions), h2.copy(), h2.copy()
    shared.info["occupancy"] = {"0": {"H": 0.5, "Li": 0.5}}
    lost.positions[0] = np.nan
    for atoms in (close, flat, ghost, shared, lost):
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    write(folder / "bad.extxyz", [
        labelled(h2.copy(), forces=None), labelled(h2.copy(), forces=None), molecule("N2"),
        labelled(h2.copy(), energy=np.nan), labelled(h2.copy(), forces=np.inf * far),
        close, flat, ghost, shared, lost, labelled(h2.copy(), forces=far),
    ])  # fmt: skip
    (folder / "garbage.traj").write_bytes(b"not a trajectory" * 100)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Relaxations, molecules of four kinds, a database of crystals, and what is not to be used."""
    folder = tmp_path_factory.mktemp("ase")
    (folder / "deeper").mkdir()
    relax(folder / "Cu.traj")
    relax(folder / "deeper/Pt.traj", "Pt")
    frames = [labelled(molecule(name), seed) for seed in range(5) for name in MOLECULES]
    write(folder / "molecules.extxyz", frames)
    with connect(folder / "deeper/crystals.db") as database:
        for lattice in (3.5, 3.6, 3.7):
            for seed in range(2):
                database.write(labelled(bulk("Cu", a=lattice) * (2, 1, 1), seed))
    write_bad(folder)
    return folder


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("lmdb") / "data"
    ase_files.convert([source], output, val=0.2, max_force=30)
    return output


def entries(folder) -> list:
    splits = [split for split in ("train", "val", "test") if (folder / split).exists()]
    return [entry for split in splits for entry in open_labelled(folder / split)]


def originals(source) -> dict:
    """Usable frames by the number of their file and their own."""
    files = ["Cu.traj", "deeper/Pt.traj", "deeper/crystals.db", "molecules.extxyz"]
    return {name: read(source / name, ":") for name in files}


def test_labels_round_trip(source, converted):
    """Energies to the last bit of double precision, forces of single, unconstrained."""
    by_energy = {entry.energy.item(): entry for entry in entries(converted)}
    frames = [atoms for frames in originals(source).values() for atoms in frames]
    assert len(by_energy) == len(entries(converted)) == len(frames) == 10 + 10 + 20 + 6
    for atoms in frames:
        entry = by_energy[atoms.get_potential_energy()]
        forces = atoms.get_forces(apply_constraint=False).astype(np.float32)
        np.testing.assert_array_equal(entry.forces.numpy(), forces)
        assert entry.energy.dtype == torch.float64 and entry.energy.shape == (1,)
        assert entry.atomic_numbers.tolist() == atoms.numbers.tolist()
        assert entry.natoms == len(atoms) and entry.pbc.tolist() == [atoms.pbc.tolist()]
        np.testing.assert_array_equal(
            entry.cell[0, atoms.pbc], atoms.cell.array[atoms.pbc].astype(np.float32)
        )
        rebuilt = Atoms(atoms.numbers, entry.pos.numpy(), cell=entry.cell[0].numpy(), pbc=atoms.pbc)
        np.testing.assert_allclose(
            rebuilt.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-4
        )


def test_sources_may_be_several_files_and_folders(source, tmp_path):
    """Each file once, by its short name where no other has it."""
    (tmp_path / "more").mkdir()
    more = tmp_path / "more/Cu.traj"
    more.write_bytes((source / "deeper/Pt.traj").read_bytes())
    sources = [source / "Cu.traj", source, more]
    report = ase_files.convert(sources, tmp_path / "data", max_force=30)
    names = {"Cu.traj", "bad.extxyz", "deeper/Pt.traj", "deeper/crystals.db", "molecules.extxyz"}
    assert names | {str(more)} <= report["files"].keys()
    assert report["files"][str(more)] == report["files"]["deeper/Pt.traj"]
    assert sum(split["frames"] for split in report["splits"].values()) == 46 + 10


def test_a_link_is_no_second_file(source, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/1.traj").write_bytes((source / "Cu.traj").read_bytes())
    (tmp_path / "runs/latest.traj").symlink_to("1.traj")
    assert list(ase_files.find_files([tmp_path / "runs"])) == ["1.traj"]


def test_constraints_and_tags(source, converted):
    for entry in entries(converted):
        on_slab = entry.natoms == 9
        assert entry.tags.tolist() == ([2] * 4 + [1] * 4 + [0] if on_slab else [0] * entry.natoms)
        assert entry.fixed.tolist() == ([1] * 4 + [0] * 5 if on_slab else [0] * entry.natoms)
        assert on_slab <= bool((entry.forces[:4] != 0).any())


def test_no_system_is_in_two_splits(converted):
    sids = {s: {e.sid for e in open_labelled(converted / s)} for s in ("train", "val", "test")}
    together = sorted(sid for group in sids.values() for sid in group)
    assert together == list(range(2 + 4 + 3))  # each once
    frames = [(entry.sid, entry.fid) for entry in entries(converted)]
    assert len(set(frames)) == len(frames)
    for sid in together:  # one system is one structure
        members = [entry for entry in entries(converted) if entry.sid == sid]
        assert len({tuple(entry.atomic_numbers.tolist()) for entry in members}) == 1
        assert len({tuple(entry.cell.flatten().tolist()) for entry in members}) == 1
    sizes = {split: len(open_labelled(converted / split)) for split in sids}
    assert sizes["train"] > sizes["val"] > 0 and sizes["test"] > 0


def test_the_seed_decides(source, tmp_path):
    def train(name, seed):
        ase_files.convert([source], tmp_path / name, seed=seed)
        return [(entry.sid, entry.fid) for entry in open_labelled(tmp_path / name / "train")]

    assert train("a", 0) == train("b", 0) != train("c", 1)


def test_everything_left_out_is_reported(source, converted, tmp_path, capsys):
    report = json.loads((converted / "report.json").read_text())
    assert {reason: entry["count"] for reason, entry in report["left_out"].items()} == {
        "no forces": 2,
        "no energy": 1,
        "NaN or infinity in energy": 1,
        "NaN or infinity in forces": 1,
        "atoms # and # are # Angstrom apart": 1,
        "the cell is flat": 1,
        "atomic_numbers holds #, which is no element": 1,
        "partially occupied sites in info['occupancy']": 1,
        "NaN or infinity in positions or cell": 1,
        "a force of # eV/Angstrom, above --max-force": 1,
        "cannot be read from here on": 1,
    }
    examples = [entry["examples"] for entry in report["left_out"].values()]
    assert ["bad.extxyz, frame 0", "bad.extxyz, frame 1"] in examples
    assert ["bad.extxyz, frame 10: a force of 69.3 eV/Angstrom, above --max-force"] in examples
    assert any(e[0].startswith("garbage.traj, frame 0 (InvalidULMFileError: ") for e in examples)
    assert report["source"] == str(source) and report["val"] == 0.2 and report["max_force"] == 30
    assert sum(split["frames"] for split in report["splits"].values()) == len(entries(converted))
    ends(0, "data", "files", source, "--output", tmp_path / "again", "--test", 0)
    printed = capsys.readouterr().out
    assert "Left out:\n      2  no forces; first: bad.extxyz, frame 0\n" in printed
    assert "above --max-force" not in printed and "contiguous" not in printed
    assert not (tmp_path / "again/test").exists()


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path):
    path = tmp_path / "broken.extxyz"
    write(path, [labelled(molecule("H2O"), seed) for seed in range(6)])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    report = ase_files.convert([path], tmp_path / "data")
    assert sum(split["frames"] for split in report["splits"].values()) == 5
    left_out = report["left_out"]["cannot be read from here on"]
    assert left_out["examples"][0].startswith("broken.extxyz, frame 5 (XYZError: ")


def test_molecule_without_a_cell(converted):
    """A box that nothing sees the end of, even where `pbc` is not looked at."""
    entry = next(entry for entry in entries(converted) if 8 in entry.atomic_numbers[:1])
    assert entry.natoms == 3 and not entry.pbc.any()
    torch.testing.assert_close(entry.cell[0], ase_files.BOX * torch.eye(3))


def test_zero_vectors_are_no_period():
    """Periodic without a cell, as many a file says by mistake; and along one direction only."""
    wire = Atoms("H", pbc=True, cell=[[0, 0, 0], [0, 0, 0], [0, 1, 1]])
    wire.calc = SinglePointCalculator(wire, energy=-1.0, forces=np.zeros((1, 3)))
    entry = ase_files.to_data(wire)
    assert entry.pbc.tolist() == [[False, False, True]]
    lengths = entry.cell[0].norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([ase_files.BOX, ase_files.BOX, 2**0.5]))
    assert entry.cell[0].det().abs() > 2000


def test_single_trajectory_is_cut_in_blocks(tmp_path, capsys):
    relax(tmp_path / "one.traj", steps=19)
    ends(0, "data", "files", tmp_path / "one.traj", "--output", tmp_path / "data")
    assert "errors on val and test will be optimistic" in capsys.readouterr().out
    assert json.loads((tmp_path / "data/report.json").read_text())["systems_divided"]
    fids = {s: [e.fid for e in open_labelled(tmp_path / "data" / s)] for s in ("val", "test")}
    assert fids == {"val": [16, 17], "test": [18, 19]}
    assert [e.fid for e in open_labelled(tmp_path / "data/train")] == list(range(16))


def test_the_cell_of_a_trajectory_may_change(tmp_path):
    with Trajectory(tmp_path / "pressed.traj", "w") as trajectory:
        for lattice in (3.5, 3.6, 3.7):
            trajectory.write(labelled(bulk("Cu", a=lattice)))
    frames = ase_files.usable_frames({"pressed.traj": tmp_path / "pressed.traj"}, np.inf, {})
    assert [(frame.sid, frame.fid) for frame in frames] == [(0, 0), (0, 1), (0, 2)]


def test_a_model_reads_what_is_written(source, converted):
    """Energies and forces of one batch: molecules without a cell, a slab and crystals."""
    data = entries(converted)
    batch = data_list_collater(data, otf_graph=True)
    assert batch.cell.shape == (len(data), 3, 3) and batch.pbc.shape == (len(data), 3)
    batch.pos, batch.cell = batch.pos.double(), batch.cell.double()
    model = small_model()
    together = model(batch)
    assert together["forces"].shape == batch.forces.shape
    for k in range(0, len(data), 7):  # as in a batch of its own, without a cell if it had none
        alone = data_list_collater([data[k]], otf_graph=True)
        alone.pos, alone.cell = alone.pos.double(), alone.cell.double() * alone.pbc.T
        torch.testing.assert_close(model(alone)["energy"][0], together["energy"][k])


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist; give a folder or a file"),
        (["empty"], "empty holds no .traj, .xyz, .extxyz, .db file"),
        (["good", "--val", "0.6", "--test", "0.4"], "give fractions whose sum is below 1"),
        (["good", "--val", "-0.1"], "--val -0.1 and --test 0.1 are not possible"),
        (["good", "--max-force", "0"], "'--max-force': 0.0 is not in the range x>0"),
        (["good", "--max-force", "1e-9"], "most often (2 times): a force of # eV/Angstrom"),
        (["good"], "2 usable frames are too few for 3 splits"),
        (["unlabelled"], "most often (1 times): no energy; first: n2.xyz, frame 0"),
        (["renamed"], "no energy but 'REF_energy', to be called 'energy' if it is the total"),
        (["good", "--output", "good"], "good exists and is no data set of ours"),
    ],
)
def test_wrong_input_is_explained(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "good", "renamed", "unlabelled"):
        (tmp_path / folder).mkdir()
    write("good/two.xyz", [labelled(molecule("H2O"), seed) for seed in range(2)])
    write("unlabelled/n2.xyz", molecule("N2"))
    renamed = molecule("N2")
    renamed.info["REF_energy"] = -1.0
    write("renamed/x.xyz", renamed, format="extxyz")
    ends(2, "data", "files", arguments[0], "--output", "data", *arguments[1:])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists() and (tmp_path / "good/two.xyz").exists()


def test_nothing_is_left_of_a_failed_conversion(source, tmp_path, monkeypatch):
    def failing(*args):
        raise UserError("broken")

    ase_files.convert([source], tmp_path / "data")
    before = (tmp_path / "data/report.json").read_text()
    monkeypatch.setattr(ase_files, "deal", failing)
    with pytest.raises(UserError, match="broken"):
        ase_files.convert([source], tmp_path / "data", seed=1)
    assert (tmp_path / "data/report.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
