"""The QM9 converter on the committed molecules, from both formats."""

import bz2
import itertools
import json

import ase.units
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SAMPLE_ARCHIVE, SAMPLE_CSV, ends

from ocp_physmol.datasets import lmdb_writer, qm9
from ocp_physmol.errors import UserError
from ocp_physmol.files import complete_folder
from ocp_physmol.relaxation.predictor import batches, open_labelled

SPLITS = ("train", "val", "test")


def entries(folder):
    return {split: list(open_labelled(folder / split)) for split in SPLITS}


def test_both_formats_hold_the_same_molecules():
    from_csv = {m.index: m for m in qm9.read_csv(SAMPLE_CSV)}
    from_archive = list(qm9.read_archive(SAMPLE_ARCHIVE))
    assert len(from_csv) == 40 and len(from_archive) == 12
    for molecule in from_archive:
        other = from_csv[molecule.index]
        np.testing.assert_array_equal(molecule.numbers, other.numbers)
        np.testing.assert_array_equal(molecule.positions, other.positions)
        assert molecule.energy == other.energy
        np.testing.assert_array_equal(molecule.frequencies, other.frequencies)


def test_methane_is_methane():
    methane = next(qm9.read_csv(SAMPLE_CSV))
    assert methane.numbers.tolist() == [6, 1, 1, 1, 1]
    assert methane.energy == pytest.approx(-40.47893 * 27.211386, rel=1e-7)
    lengths = np.linalg.norm(methane.positions[1:] - methane.positions[0], axis=1)
    np.testing.assert_allclose(lengths, 1.092, atol=1e-3)


def test_frequencies_add_up_to_the_zero_point_energy():
    methane, ammonia, water = itertools.islice(qm9.read_csv(SAMPLE_CSV), 3)
    for molecule, hartree in ((methane, 0.044749), (ammonia, 0.034358), (water, 0.021375)):
        zero_point = molecule.frequencies.sum() * ase.units.invcm / 2
        assert zero_point / ase.units.Hartree == pytest.approx(hartree, abs=1e-6)


def test_every_vibration_stands_there_once():
    """Linear molecules have one more, and but-2-yne's (29) are listed twice in the original."""
    molecules = {m.index: m for m in qm9.read_csv(SAMPLE_CSV)}
    extra = {k: len(m.frequencies) - (3 * len(m.numbers) - 6) for k, m in molecules.items()}
    # not cyanogen (25): QM9 lists one of its two lowest bends only
    assert {k for k, count in extra.items() if count == 1} == {4, 5, 23, 24}
    assert set(extra.values()) == {0, 1}
    assert molecules[29].frequencies[:2].tolist() == [23.6091, 205.589]
    assert all((np.diff(m.frequencies) >= 0).all() for m in molecules.values())


def test_batches_hold_frequencies_molecule_by_molecule(qm9_folder):
    structures = list(open_labelled(qm9_folder / "test"))
    batch = next(batches(structures, len(structures)))
    assert torch.equal(batch.frequencies, torch.cat([s.frequencies for s in structures]))
    assert batch.frequencies.dtype == torch.float32


def test_entries_are_ocp_entries(qm9_folder):
    data = open_labelled(qm9_folder / "train")[0]
    n = int(data.natoms)
    assert data.pos.shape == data.forces.shape == (n, 3) and data.pos.dtype == torch.float32
    assert data.energy.dtype == torch.float64 and data.energy.shape == (1,)
    assert data.cell.shape == (1, 3, 3) and data.tags.shape == data.fixed.shape == (n,)
    assert (data.forces == 0).all() and isinstance(data.sid, int)
    # inside the box, no atom nearer to its wall than any usual cutoff
    assert data.pos.min() > 10 and data.pos.max() < qm9.BOX - 10


def test_splits_are_disjoint_complete_and_of_the_right_size(qm9_folder):
    sids = {split: [d.sid for d in data] for split, data in entries(qm9_folder).items()}
    assert {split: len(s) for split, s in sids.items()} == {"train": 32, "val": 2, "test": 6}
    together = itertools.chain(*sids.values())
    assert sorted(together) == sorted(m.index for m in qm9.read_csv(SAMPLE_CSV))
    metadata = np.load(qm9_folder / "train/metadata.npz")["natoms"]
    assert metadata.tolist() == [int(d.natoms) for d in open_labelled(qm9_folder / "train")]


def test_seed_decides_the_split(tmp_path):
    def order(name, seed):
        qm9.make(tmp_path / name, str(SAMPLE_CSV), seed=seed)
        return [d.sid for d in open_labelled(tmp_path / name / "train")]

    assert order("a", 0) == order("b", 0) != order("c", 1)


def test_options_choose_molecules(tmp_path):
    ends(0, "data", "qm9", "--source", SAMPLE_ARCHIVE, "--output", tmp_path / "a",
         "--max-heavy-atoms", 2)  # fmt: skip
    report = json.loads((tmp_path / "a/report.json").read_text())
    data = list(itertools.chain(*entries(tmp_path / "a").values()))
    assert report["max_heavy_atoms"] == 2 and len(data) == sum(report[s] for s in SPLITS)
    assert all((d.atomic_numbers > 1).sum() <= 2 for d in data)
    counts = qm9.make(tmp_path / "b", str(SAMPLE_CSV), num_molecules=20)
    assert counts == {"train": 16, "val": 1, "test": 3}


@pytest.mark.parametrize("number", [3, 5, 10, 17])
def test_no_split_is_empty(number, tmp_path):
    counts = qm9.make(tmp_path / "few", str(SAMPLE_CSV), num_molecules=number)
    assert min(counts.values()) >= 1 and sum(counts.values()) == number


def test_excluded_molecules_stay_out(tmp_path):
    listing = tmp_path / "uncharacterized.txt"
    listing.write_text("List\n\n index  SMILES\n    2   N\n   11   CC=O\n\n 2 compounds\n")
    indices = {m.index for m in qm9.read_archive(SAMPLE_ARCHIVE, listing)}
    assert indices == {1, 3, 4, 5, 6, 7, 8, 9, 10, 12}


def test_a_list_that_excludes_nothing_is_refused(tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("CC=O\n")
    with pytest.raises(UserError, match=r"list.txt lists no molecule; give uncharacterized.txt"):
        next(qm9.read_archive(SAMPLE_ARCHIVE, listing))
    with pytest.raises(UserError, match=r"list.txt is for the archive alone; leave it out"):
        qm9.read(str(SAMPLE_CSV), listing)


def test_numbers_in_the_notation_of_mathematica():
    text = "2\ngdb 1" + "\t0." * 10 + "\t-1.5" + "\t0." * 4 + "\nH\t0.\t1.*^-6\t0.\t0.\n"
    text += "H\t0.\t0.\t-7.4*^-1\t0.\n4.4*^3\t\n[H][H]\t\n"
    molecule = qm9._parse_xyz(text)
    assert molecule.positions[0, 1] == 1e-6 and molecule.positions[1, 2] == -0.74
    assert molecule.frequencies.tolist() == [4400]


# ---- bad input


def test_package_missing(monkeypatch):
    monkeypatch.setattr(qm9.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="qm9pack is not installed; pip install"):
        next(qm9.read_qm9pack())


def test_package_damaged(monkeypatch):
    monkeypatch.setitem(qm9.QM9PACK_SHA256, "qm9_part1.csv", "0" * 64)
    with pytest.raises(UserError, match=r"qm9_part1\.csv is missing or damaged"):
        next(qm9.read_qm9pack())


@pytest.mark.parametrize("damage", ["truncated", "no archive", "broken file", "lost line"])
def test_archive_damaged(damage, tmp_path):
    path = tmp_path / "dsgdb9nsd.xyz.tar.bz2"
    content = SAMPLE_ARCHIVE.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "no archive":
        path.write_text("<html>not found</html>")
    elif damage == "lost line":  # the names of methane where its frequencies should be
        line = b"1341.307\t1341.3284\t1341.365"
        text = bz2.decompress(content)
        assert line in text
        path.write_bytes(bz2.compress(text.replace(line, b"C".ljust(len(line)))))
    else:
        path.write_bytes(bz2.compress(bz2.decompress(content).replace(b"\nC\t", b"\nQ\t")))
    with pytest.raises(UserError, match="download it again"):
        list(qm9.read_archive(path))


def test_nothing_is_left_of_a_failed_conversion(tmp_path, monkeypatch):
    def failing(*args):
        yield from list(qm9.read_csv(SAMPLE_CSV))[:10]
        raise UserError("broken")

    qm9.make(tmp_path / "qm9", str(SAMPLE_CSV))
    before = (tmp_path / "qm9/report.json").read_text()
    with monkeypatch.context() as patch, pytest.raises(UserError, match="broken"):
        patch.setattr(qm9, "read", failing)
        qm9.make(tmp_path / "qm9", str(SAMPLE_CSV))
    with pytest.raises(RuntimeError), complete_folder(tmp_path / "qm9", {}) as folder:
        lmdb_writer.write_lmdb(folder / "train", map(qm9.to_data, qm9.read_csv(SAMPLE_CSV)))
        raise RuntimeError("killed half way")
    assert (tmp_path / "qm9/report.json").read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["qm9"]


def test_other_peoples_folders_are_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="choose another folder"):
        qm9.make(tmp_path, str(SAMPLE_CSV))
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_too_few_molecules(tmp_path):
    with pytest.raises(UserError, match="only 40 molecules"):
        qm9.make(tmp_path / "qm9", str(SAMPLE_CSV), num_molecules=1000)


@pytest.mark.parametrize(
    "arguments", [["--source", "nowhere.tar.bz2"], ["--seed", "x"], ["--num-molecules", "2"]]
)
def test_command_line_says_what_is_wrong(arguments, capsys):
    ends(2, "data", "qm9", *arguments)
    assert "Traceback" not in capsys.readouterr().err


def test_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_writer, "GROWTH", 1 << 14)
    count = lmdb_writer.write_lmdb(tmp_path / "train", map(qm9.to_data, qm9.read_csv(SAMPLE_CSV)))
    assert count == len(open_labelled(tmp_path / "train")) == 40


@pytest.mark.parametrize("kind", ["empty", "half", "picture", "other columns", "lost cell"])
def test_csv_damaged(kind, tmp_path):
    good, path = SAMPLE_CSV.read_bytes(), tmp_path / "mine.csv"
    header, _, *rest = good.split(b"\n")
    path.write_bytes({
        "empty": b"",
        "half": good[: len(good) // 2],
        "picture": b"\x89PNG\r\n" + bytes(range(256)),
        "other columns": b"a,b\n1,2\n",
        "lost cell": b"\n".join([header, b",".join([b""] * (header.count(b",") + 1)), *rest]),
    }[kind])  # fmt: skip
    with pytest.raises(UserError, match=r"mine\.csv is no complete CSV file of QM9: "):
        list(qm9.read_csv(path))


@pytest.mark.parametrize(("column", "value", "problem"), [
    ("InternalEnergy_0K_au", "", "molecule 1 holds NaN"),
    ("InternalEnergy_0K_au", "inf", "molecule 1 holds NaN"),
    ("XYZ_Ang", "[[nan,0,0]]", "NaN"), ("Index", "text", "invalid literal"), ("Index", "", "NaN"),
])  # fmt: skip
def test_csv_with_unfit_values(column, value, problem, tmp_path):
    table = pd.read_csv(SAMPLE_CSV, dtype=str)
    table.loc[0, column] = value
    table.to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(UserError, match=rf"mine\.csv is no complete CSV file of QM9: .*{problem}"):
        list(qm9.read_csv(tmp_path / "mine.csv"))


def test_an_index_twice(tmp_path):
    table = pd.read_csv(SAMPLE_CSV, dtype=str)
    pd.concat([table, table[4:5]]).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(UserError, match="holds 2 molecules with the index 5; remove all but one"):
        qm9.make(tmp_path / "data", str(tmp_path / "mine.csv"))
