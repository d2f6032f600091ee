"""Records of what was trained and measured: one small JSON file a run, which git keeps."""

import json
from pathlib import Path

import numpy as np

from ocp_physmol.errors import UserError
from ocp_physmol.files import complete_or_absent

DIGITS = 4  # significant ones; no measurement here has more
REQUIRED = {
    "name", "experiment", "title", "place", "note", "paper", "config", "command", "seed", "seconds",
    "steps", "parameters", "machine", "versions", "git", "date", "data", "protocol", "errors",
    "recovery", "vibrations", "assembly", "pictures",
}  # fmt: skip


def compact(value):
    """The same with arrays as lists, and floats rounded to DIGITS significant digits."""
    if isinstance(value, dict):
        return {str(key): compact(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return compact(value.tolist())
    if isinstance(value, (list, tuple)):
        return [compact(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.{DIGITS}g}")
    return value.item() if isinstance(value, np.generic) else value


def write_record(path: Path, record: dict) -> None:
    """Write a record. Infinity and NaN stand in it as Python's json writes and reads them.

    Raises:
        UserError: if the file cannot be written.
    """
    with complete_or_absent(path) as partial:
        partial.write_text(json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n")


def read_record(path: Path) -> dict:
    """One record.

    Raises:
        UserError: if the file is no complete record.
    """
    cure = "restore it with git, or measure it anew with ocp_physmol.experiments.command --again"
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"record {path} cannot be read ({e}); {cure}") from e
    missing = sorted(REQUIRED - record.keys()) if isinstance(record, dict) else sorted(REQUIRED)
    if missing:
        raise UserError(f"record {path} has no '{missing[0]}'; {cure}")
    return record


def read_records(folder: Path) -> dict[str, list[dict]]:
    """All records in `folder`/EXPERIMENT/RUN.json, by experiment, in the order of its file.

    Raises:
        UserError: if the folder is missing, or one of them is damaged.
    """
    if not folder.is_dir():
        raise UserError(
            f"--records {folder} does not exist; make records with "
            "python -m ocp_physmol.experiments.command"
        )
    experiments: dict[str, list[dict]] = {}
    for path in sorted(folder.glob("*/*.json")):
        experiments.setdefault(path.parent.name, []).append(read_record(path))
    return {n: sorted(found, key=lambda r: r["place"]) for n, found in experiments.items()}
