"""One file with the predictions for four splits: gathered, checked, and scored by their data."""

from pathlib import Path

from tqdm import tqdm

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.splits import EVALUATION as SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.files import complete_or_absent
from ocp_physmol.leaderboard.scores import require_labels, score_split
from ocp_physmol.leaderboard.submission import (
    FIELDS,
    Size,
    open_npz,
    read_arrays,
    read_predictions,
    reason_to_refuse,
    system_id,
    write_arrays,
)

PARTS = ("test", "val")


def gather(
    task: str, predictions: dict[str, Path], data: Path, part: str, output: Path
) -> dict[str, int]:
    """Gather the predictions of all splits in `output`, which is there only if it passes `check`.

    Args:
        predictions: of each split, what fairchem wrote: an .npz or a folder of trajectories.
        data: folder of the LMDBs {part}_{split} that were predicted.

    Returns:
        The number of systems of each split.

    Raises:
        UserError: if predictions are missing, damaged or not those that the data ask for.
    """
    for split in SPLITS:
        if not predictions[split].exists():
            raise UserError(f"{predictions[split]} of split {split} is missing; predict it first")
    datasets = open_splits(task, data, part)
    with complete_or_absent(output) as partial:
        write_arrays(partial, (
            (f"{split}_{field}", array)
            for split in SPLITS
            for field, array in read_predictions(task, predictions[split], split).items()
        ))  # fmt: skip
        return check_splits(task, partial, datasets, named=predictions)


def check(task: str, file: Path, data: Path, part: str) -> dict[str, int]:
    """Check a gathered file as strictly as the server; return the number of systems of each split.

    Raises:
        UserError: for the first problem found.
    """
    return check_splits(task, file, open_splits(task, data, part), dict.fromkeys(SPLITS, file))


def score(task: str, file: Path, data: Path, part: str) -> dict[str, dict[str, float]]:
    """Metrics of each split of a file that passes `check`: eV, Angstrom, and fractions of 1.

    Raises:
        UserError: for the first problem found, or if the data have no labels.
    """
    datasets = open_splits(task, data, part)
    for dataset in datasets.values():
        require_labels(task, dataset)
    check_splits(task, file, datasets, dict.fromkeys(SPLITS, file))
    return {
        split: score_split(task, read_arrays(task, file, split, f"{split}_"), dataset)
        for split, dataset in datasets.items()
    }


# ---- the data that a file must cover


class SplitDataset(PhysMolLmdbDataset):
    """A split's LMDB, whose entries must hold the keys `required` and are not checked further."""

    def __init__(self, src: Path, required: tuple[str, ...]) -> None:
        super().__init__({"src": str(src), "required": required})
        self._checked[:] = True  # the check of distances takes longer than reading

    def __getitem__(self, idx: int):
        entry = super().__getitem__(idx)
        for key in self.required:
            if getattr(entry, key, None) is None:
                raise UserError(
                    f"{self.path}, entry {idx} has no '{key}'; are these data of another task?"
                )
        return entry


def open_splits(task: str, data: Path, part: str) -> dict[str, SplitDataset]:
    """The LMDBs of all splits: folders `data`/{part}_{split} of shards, or files of that name.

    Raises:
        UserError: if one is missing or damaged.
    """
    required = ("sid", "fixed", "cell", *(["fid"] if task == "s2ef" else []))
    datasets = {}
    for split in SPLITS:
        folder = data / f"{part}_{split}"
        src = folder if folder.exists() else data / f"{part}_{split}.lmdb"
        if not src.exists():
            raise UserError(
                f"split {split}: neither {folder} nor {src} exists; correct --data or --part"
            )
        datasets[split] = SplitDataset(src, required)
    return datasets


def read_systems(task: str, dataset: SplitDataset) -> dict[str, Size]:
    """Sizes of all systems of a split, by their ids.

    Raises:
        UserError: if an entry is damaged, lacks a key or has the id of another one.
    """
    systems = {}
    title = f"Reading {dataset.path.name}"
    for index in tqdm(range(len(dataset)), title, unit=" entries", mininterval=1):
        entry = dataset[index]
        name = system_id(task, entry)
        if name in systems:
            raise UserError(
                f"{dataset.path}, entry {index}: the id '{name}' was there before; "
                f"are these data of another task than {task}?"
            )
        systems[name] = Size(len(entry.fixed), int((entry.fixed == 0).sum()))
    return systems


def check_splits(
    task: str, file: Path, datasets: dict[str, SplitDataset], named: dict[str, Path]
) -> dict[str, int]:
    """As `check`; messages name the path that `named` has for the split."""
    _check_keys(task, file)
    sizes = {}
    for split, dataset in datasets.items():
        arrays = read_arrays(task, file, split, f"{split}_")
        systems = read_systems(task, dataset)
        others = ((s, read_systems(task, d)) for s, d in datasets.items() if s != split)
        problem = reason_to_refuse(arrays, systems, others)
        if problem:
            raise UserError(f"{named[split]}, split {split}: {problem}")
        sizes[split] = len(systems)
    return sizes


def _check_keys(task: str, file: Path) -> None:
    wanted = [f"{split}_{field}" for split in SPLITS for field in FIELDS[task]]
    with open_npz(file) as npz:
        present = npz.files
    for key in wanted:
        if key not in present:
            raise UserError(f"{file} has no '{key}', which {task} needs; gather all splits again")
    for key in present:
        if key not in wanted:
            raise UserError(f"{file} holds '{key}', which {task} does not know; remove it")
