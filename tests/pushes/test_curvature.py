"""A teacher's forces on pushed molecules: what is stored, what is refused, how it goes on."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from conftest import slab, to_data

from ocp_physmol.__main__ import main
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.geometry import bonds
from ocp_physmol.pushes import curvature

EMT_NAME = "ase.calculators.emt:EMT"
NAMES = ("CH3CH2OH", "H2O", "CH4", "C2H6", "NH3")


def data_set(folder, *molecules, split="train"):
    folder.mkdir(exist_ok=True)
    entries = [to_data(m, sid) for sid, m in enumerate(molecules)]
    write_lmdb(folder / split, entries)
    return folder


@pytest.fixture
def src(tmp_path):
    data_set(tmp_path / "src", *map(molecule, NAMES))
    return data_set(tmp_path / "src", molecule("H2O"), split="test")


def label(src, dst, *options, teacher=EMT_NAME):
    given = ("--teacher", teacher, "--pushes", 3, "--processes", 1, *options)
    main(["data", "curvature", str(src), str(dst), *map(str, given)])


def labelled(src, dst, *options, **teacher):
    with pytest.raises(SystemExit) as ended:
        label(src, dst, *options, **teacher)
    assert ended.value.code == 0
    return list(PhysMolLmdbDataset({"src": str(dst / "train")}))


def by_emt(entry, pos):
    atoms = Atoms(entry.atomic_numbers.numpy(), pos.numpy())
    atoms.calc = EMT()
    return atoms.get_potential_energy(), torch.tensor(atoms.get_forces(), dtype=torch.float32)


def test_labels_are_the_teacher_s_and_zero_at_the_minimum(src, tmp_path):
    entries = labelled(src, tmp_path / "dst")
    assert [entry.natoms for entry in entries] == [9, 3, 5, 8, 4]
    for entry in entries:
        energy, forces = by_emt(entry, entry.pos)
        assert float(entry.teacher_energy) == pytest.approx(energy, abs=1e-9)
        assert torch.equal(entry.teacher_pos, entry.pos)
        torch.testing.assert_close(entry.teacher_forces, forces)
        assert entry.pushed_pos.shape == (entry.natoms, 3, 3)
        for k in range(3):
            energy, pushed = by_emt(entry, entry.pushed_pos[:, k])
            assert float(entry.pushed_teacher_energy[0, k]) == pytest.approx(energy, abs=1e-4)
            torch.testing.assert_close(entry.pushed_teacher_forces[:, k], pushed, atol=1e-3, rtol=0)
            torch.testing.assert_close(
                entry.restoring_forces[:, k], entry.pushed_teacher_forces[:, k] - forces
            )
    pushes = entries[0].pushed_pos - entries[0].pos[:, None]
    assert len({round(float(p.norm()), 6) for p in pushes.unbind(1)}) == 3


def test_bonds_get_springs_where_the_data_have_frequencies(qm9_folder, tmp_path):
    entries = labelled(qm9_folder, tmp_path / "dst", "--frequencies", 6, teacher="gfn2")
    for entry in entries:
        pairs = [tuple(pair) for pair in entry.stretch_index.T.tolist()]
        assert set(pairs) == bonds(entry.atomic_numbers.numpy(), entry.pos.numpy())
        assert entry.stretch_stiffness.shape == (len(pairs),)
    stiffness = torch.cat([entry.stretch_stiffness for entry in entries])
    assert 1 < float(stiffness.abs().max()) < 30
    plain = labelled(qm9_folder, tmp_path / "plain", "--frequencies", 0, teacher="gfn2")
    assert "stretch_index" not in plain[0]
    assert torch.equal(plain[0].restoring_forces, entries[0].restoring_forces)


def test_without_pushes_minima_alone_are_labelled(src, tmp_path):
    entries = labelled(src, tmp_path / "dst", "--pushes", 0)
    assert all("teacher_forces" in e and "restoring_forces" not in e for e in entries)


def test_other_splits_have_no_pushes(src, tmp_path):
    labelled(src, tmp_path / "dst")
    (entry,) = PhysMolLmdbDataset({"src": str(tmp_path / "dst/test")})
    assert "teacher_energy" in entry and "pushed_pos" not in entry


def test_pushes_depend_on_the_seed_alone(src, tmp_path, monkeypatch):
    once = labelled(src, tmp_path / "once")
    monkeypatch.setattr(curvature, "PART", 2)
    again = labelled(src, tmp_path / "again", "--processes", 2)
    other = labelled(src, tmp_path / "other", "--seed", 1)
    for a, b, c in zip(once, again, other):
        assert torch.equal(a.pushed_pos, b.pushed_pos)
        assert torch.equal(a.restoring_forces, b.restoring_forces)
        assert not torch.allclose(a.pushed_pos, c.pushed_pos)


def test_an_interrupted_command_goes_on(src, tmp_path, monkeypatch):
    expected = labelled(src, tmp_path / "whole")
    monkeypatch.setattr(curvature, "PART", 2)
    write, written = curvature.write_lmdb, []

    def killed_at_the_third(folder, structures):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(folder)
        return write(folder, structures)

    monkeypatch.setattr(curvature, "write_lmdb", killed_at_the_third)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        label(src, tmp_path / "dst")
    assert not (tmp_path / "dst").exists()
    monkeypatch.setattr(curvature, "write_lmdb", write)
    evaluate, evaluated = curvature.CalculatorPool.evaluate, []

    def counted(self, structures):
        for answer in evaluate(self, structures):
            evaluated.append(answer)
            yield answer

    monkeypatch.setattr(curvature.CalculatorPool, "evaluate", counted)
    found = labelled(src, tmp_path / "dst")
    assert 0 < len(evaluated) < 5 * 4 + 1  # not all of them again
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a.restoring_forces, b.restoring_forces)
    assert sorted(p.name for p in (tmp_path / "dst").iterdir()) == ["report.json", "test", "train"]


def test_what_the_teacher_refuses_is_left_out_and_named(src, tmp_path, capsys):
    data_set(tmp_path / "odd", molecule("H2O"), molecule("SiH4"), molecule("CH4"))
    entries = labelled(tmp_path / "odd", tmp_path / "dst")
    assert [entry.natoms for entry in entries] == [3, 5] and 14 not in entries[1].atomic_numbers
    said = capsys.readouterr().out
    assert "Wrote 2 molecules" in said and "1 are left out" in said and "1 (" in said


def test_labels_of_another_teacher_are_replaced(src, tmp_path):
    labelled(src, tmp_path / "once")
    (tmp_path / "once/train/metadata.npz").unlink()
    entries = labelled(tmp_path / "once", tmp_path / "again", "--seed", 1, teacher="mmff94")
    for entry in entries:
        assert "mmff94_energy" in entry and "pushed_mmff94_energy" in entry
        assert "pushed_teacher_energy" not in entry  # it was of other pushes
        assert entry.pushed_mmff94_forces.shape == entry.pushed_pos.shape


def test_a_split_that_is_refused_as_a_whole_is_an_error(tmp_path, capsys):
    data_set(tmp_path / "odd", molecule("SiH4"))
    with pytest.raises(SystemExit):
        label(tmp_path / "odd", tmp_path / "dst")
    assert "refuses all of" in capsys.readouterr().err


def test_a_part_that_is_refused_as_a_whole_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(curvature, "PART", 1)
    data_set(tmp_path / "odd", molecule("SiH4"), molecule("H2O"))
    assert [e.natoms for e in labelled(tmp_path / "odd", tmp_path / "dst")] == [3]


@pytest.mark.parametrize("dst", ["src", ".", "src/train/.."])
def test_the_source_is_never_replaced(src, tmp_path, monkeypatch, capsys, dst):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        label("src", dst)
    assert "which it would replace" in capsys.readouterr().err
    assert len(PhysMolLmdbDataset({"src": str(src / "train")})) == len(NAMES)


def test_labels_of_former_data_are_not_current(src, tmp_path):
    dst = tmp_path / "dst"
    assert not curvature.is_made(src, dst, EMT_NAME, 0)
    made = labelled(src, dst)[0].pushed_pos.shape[1]
    assert curvature.is_made(src, dst, EMT_NAME, made)
    assert not curvature.is_made(src, dst, EMT_NAME, made + 1)
    assert not curvature.is_made(src, dst, "gfn2", 0)
    data_set(tmp_path / "src", molecule("CH4"), split="val")
    assert not curvature.is_made(src, dst, EMT_NAME, 0)


def test_another_push_stands_for_a_refused_one():
    class Pool:
        def evaluate(self, structures):
            for k, given in enumerate(structures):
                forces = np.full((len(given["numbers"]), 3), float(k))
                yield curvature.Refusal("no") if k in (1, 3) else (float(k), forces)

    labeller = curvature.Labeller(Pool(), "own", 0.1, 0)
    refused: list[str] = []
    (entry,) = labeller.label([to_data(molecule("H2O"))], [0], 3, refused)
    assert not refused and entry.pushed_own_energy.tolist() == [[2.0, 2.0, 2.0]]
    assert torch.equal(entry.pushed_pos[:, 0], entry.pushed_pos[:, 2])
    assert (entry.restoring_forces == 2).all()


@pytest.mark.parametrize("atoms", [slab()], ids=["slab"])
def test_periodic_structures_are_refused(atoms, tmp_path, capsys):
    data_set(tmp_path / "src", atoms)
    with pytest.raises(SystemExit):
        label(tmp_path / "src", tmp_path / "dst")
    assert "curvature labels are for free molecules" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("gfn7", "give one of gfn2, mmff94, ani1x, or MODULE:NAME"),
        ("nowhere:X", "cannot be loaded"),
    ],
)
def test_unknown_teachers_are_refused(src, tmp_path, capsys, teacher, message):
    with pytest.raises(SystemExit):
        label(src, tmp_path / "dst", teacher=teacher)
    assert message in capsys.readouterr().err


def test_folders_without_data_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        label(tmp_path, tmp_path / "dst")
    assert "holds no folders with *.lmdb files" in capsys.readouterr().err
