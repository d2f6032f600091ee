"""One file with the predictions for four splits: gathered, checked, and scored by their data.

A UserError names the first file that is missing or damaged or does not belong to the others.
"""

from pathlib import Path

import pandas as pd
from torch_geometric.data.data import BaseData
from tqdm import tqdm

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.files import complete_or_absent
from ocp_physmol.leaderboard import submission
from ocp_physmol.leaderboard.scores import score_split, targets


def gather(
    task: str, predictions: dict[str, Path], data: Path, part: str, output: Path
) -> dict[str, int]:
    """Gather the predictions of all splits in `output`, which is there only if it passes `check`.

    fairchem wrote `predictions` of each split, an .npz or a folder of trajectories, for the LMDBs
    `data`/{part}_{split}. Returns the number of systems of each split.
    """
    for split in SPLITS:
        if not predictions[split].exists():
            raise UserError(f"{predictions[split]} of split {split} is missing; predict it first")
    datasets = open_splits(task, data, part)
    with complete_or_absent(output) as partial:
        found = ((s, submission.read_predictions(task, predictions[s], s)) for s in SPLITS)
        submission.write_splits(partial, found)
        return _check(task, partial, datasets, predictions)


def check(task: str, file: Path, data: Path, part: str) -> dict[str, int]:
    """The number of systems of each split in a gathered file that the server would accept."""
    return _check(task, file, open_splits(task, data, part), dict.fromkeys(SPLITS, file))


def score(task: str, file: Path, data: Path, part: str) -> dict[str, dict[str, float]]:
    """Metrics of each split of a file that passes `check`: eV, Angstrom, and fractions of 1."""
    datasets = open_splits(task, data, part)
    for dataset in datasets.values():
        targets(task, dataset, range(1))  # without labels the long check is in vain
    _check(task, file, datasets, dict.fromkeys(SPLITS, file))
    return {
        split: score_split(task, submission.read_arrays(task, file, split, f"{split}_"), dataset)
        for split, dataset in datasets.items()
    }


class SplitDataset(PhysMolLmdbDataset):
    """A split's LMDB, whose entries must hold the keys `required` and are not checked further."""

    def __init__(self, task: str, src: Path) -> None:
        required = ["sid", "fixed", "cell", *(["fid"] if task == "s2ef" else [])]
        super().__init__({"src": str(src), "required": required})
        self._checked[:] = True  # the check of distances takes longer than reading
        self.task = task

    def __getitem__(self, idx: int) -> BaseData:
        entry = super().__getitem__(idx)
        for key in self.required:
            if getattr(entry, key, None) is None:
                raise self._refusal(idx, f" has no '{key}'; are these data of another task?")
        return entry

    def systems(self) -> pd.DataFrame:
        """Numbers of "all" and of "free" atoms of each system, by id."""
        sizes: dict[str, tuple[int, int]] = {}
        title = f"Reading {self.path.name}"
        for index in tqdm(range(len(self)), title, unit=" entries", mininterval=1):
            entry = self[index]
            name = submission.system_id(self.task, entry)
            if name in sizes:
                raise self._refusal(index, f" repeats id '{name}'; are these data of another task?")
            sizes[name] = (len(entry.fixed), int((entry.fixed == 0).sum()))
        return pd.DataFrame.from_dict(sizes, orient="index", columns=["all", "free"])


def open_splits(task: str, data: Path, part: str) -> dict[str, SplitDataset]:
    """The LMDBs of all splits: folders `data`/{part}_{split} of shards, or files of that name."""
    datasets = {}
    for split in SPLITS:
        folder = data / f"{part}_{split}"
        src = folder if folder.exists() else data / f"{part}_{split}.lmdb"
        if not src.exists():
            raise UserError(f"split {split}: neither {folder} nor {src} exists; see --data, --part")
        datasets[split] = SplitDataset(task, src)
    return datasets


def _check(
    task: str, file: Path, datasets: dict[str, SplitDataset], sources: dict[str, Path]
) -> dict[str, int]:
    """As `check`; what is wrong with a split is said of its source."""
    with submission.open_npz(file) as npz:
        present = npz.files
    wanted = [f"{split}_{field}" for split in SPLITS for field in submission.FIELDS[task]]
    for key in [*wanted, *present]:
        if key not in present:
            raise UserError(f"{file} has no '{key}', which {task} needs; gather all splits again")
        if key not in wanted:
            raise UserError(f"{file} holds '{key}', which {task} does not know; remove it")
    for split, dataset in datasets.items():
        arrays = submission.read_arrays(task, file, split, f"{split}_")
        others = ((other, d.systems()) for other, d in datasets.items() if other != split)
        systems = dataset.systems()
        try:
            submission.require_complete(arrays, systems, others)
        except UserError as e:
            raise UserError(f"{sources[split]}, split {split}: {e}") from e
    return {split: len(dataset) for split, dataset in datasets.items()}
