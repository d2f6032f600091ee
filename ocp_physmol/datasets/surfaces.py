"""Relaxations of adsorbates on surfaces, split by frames and by whole relaxations.

A folder holds `frames`, all usable frames as `datasets.ase_files` converts them, and a folder for
each part: "seen" and, for each fold, "unseen 1", "unseen 2"... A part has the LMDBs `train`, `val`
and `test` of S2EF, and `relax`, which leads from the first frame of each test relaxation to its
last one, as in IS2RE and IS2RS. What exists is kept.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.datasets import ase_files
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import every_nth, fold
from ocp_physmol.errors import UserError
from ocp_physmol.files import REPORT, complete_folder
from ocp_physmol.validation import Section

SEEN = "seen"


class Splitting(Section):
    """Which frames of relaxations are used, and how they are split."""

    max_force: Annotated[float, Field(gt=0)] = 50.0  # eV/Angstrom, on a free atom
    test_every: Annotated[int, Field(ge=2)] = 5  # of a relaxation's frames, one is test in "seen"
    folds: Annotated[int, Field(ge=2)] = 4  # of "unseen"

    @property
    def parts(self) -> list[str]:
        """Names of the parts: "seen" and one for each fold."""
        return [SEEN, *(f"unseen {k}" for k in range(1, self.folds + 1))]


def part_folder(data: Path, part: str) -> Path:
    """Where the LMDBs of a part are."""
    return data / part.replace(" ", "_")


def make(source: Path | None, output: Path, splitting: Splitting) -> None:
    """Convert the files of a folder, and write the parts that `output` lacks.

    A UserError if there is neither an `output` nor a `source`, if `output` was made of other files
    or otherwise, or if there are too few relaxations.
    """
    frames = output / "frames"
    if not (frames / REPORT).is_file():
        if source is None:
            raise UserError(f"{output} holds no data; give a folder of relaxations with --source")
        ase_files.convert([source], frames, 0, 0, max_force=splitting.max_force, relaxations=True)
    _require_same(frames, source, splitting.max_force)
    missing = [part for part in splitting.parts if not _is_made(output, part, splitting)]
    if missing:
        entries = PhysMolLmdbDataset({"src": str(frames / "train")})
        relaxations: dict[int, list[int]] = defaultdict(list)
        for index in tqdm(range(len(entries)), "Reading", unit=" frames"):
            relaxations[entries[index].sid].append(index)
    for part in tqdm(missing, "Splitting", unit=" parts"):
        _write_part(output, part, splitting, entries, list(relaxations.values()))


def _require_same(frames: Path, source: Path | None, max_force: float) -> None:
    """Refuse frames that were made of other files, or with another limit."""
    report = json.loads((frames / REPORT).read_text())
    cure = f"name another folder with --data, or remove {frames.parent}"
    if report["max_force"] != max_force:
        former = report["max_force"]
        raise UserError(f"{frames} was made with max_force {former}, not {max_force}; {cure}")
    if source is not None and (differing := ase_files.differing_file(report, [source])):
        raise UserError(f"{frames} was made of other files than {source} ({differing}); {cure}")


def _is_made(output: Path, part: str, splitting: Splitting) -> bool:
    """Whether a part is there; a UserError if it was split otherwise."""
    report = part_folder(output, part) / REPORT
    if not report.is_file():
        return False
    former, now = json.loads(report.read_text())["splitting"], splitting.model_dump()
    if former != now:
        raise UserError(
            f"{report.parent} was split with {former}, not {now}; name another folder with --data, "
            f"or remove {output}"
        )
    return True


def _write_part(
    output: Path,
    part: str,
    splitting: Splitting,
    entries: PhysMolLmdbDataset,
    relaxations: list[list[int]],
) -> None:
    """Write the LMDBs of one part; `relaxations` has the indices of each one's frames."""
    if part == SEEN:
        splits = every_nth(relaxations, splitting.test_every)
    else:
        splits = fold(relaxations, splitting.parts.index(part) - 1, splitting.folds)
    if empty := [split for split, indices in splits.items() if not indices]:
        raise UserError(f"part '{part}' has no frame for {empty[0]}; give longer relaxations")
    tested = set(splits["test"])
    ends = [(r[0], r[-1]) for r in relaxations if r[0] in tested]
    report: dict[str, Any] = {"part": part, "splitting": splitting.model_dump()}
    with complete_folder(part_folder(output, part), report) as folder:
        for split, indices in splits.items():
            report[split] = write_lmdb(folder / split, (entries[k] for k in indices))
        report["relax"] = write_lmdb(
            folder / "relax", (_to_relax(entries[first], entries[last]) for first, last in ends)
        )


def _to_relax(first: Data, last: Data) -> Data:
    """An entry with IS2RE's and IS2RS's keys, and `force_relaxed` [n, 3], DFT's at the end."""
    entry = first.clone()
    del entry.y, entry.force
    entry.y_init, entry.y_relaxed = float(first.y), float(last.y)
    entry.pos_relaxed, entry.force_relaxed = last.pos, last.force
    return entry
