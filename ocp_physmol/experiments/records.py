"""Records of what was trained and measured: one small JSON file a run, which git keeps."""

import json
from operator import methodcaller
from pathlib import Path
from typing import Any

from ocp_physmol.errors import UserError, blame
from ocp_physmol.evaluation.deviations import displacement_summary
from ocp_physmol.experiments.record_schema import OnMolecules, OnSurfaces
from ocp_physmol.validation import validate

DIGITS = 4  # significant ones; no measurement here has more


def compact(value: Any) -> Any:
    """The same as JSON has it: arrays as lists, and floats rounded to DIGITS significant digits."""

    def rounded(number: str) -> float:
        return float(f"{float(number):.{DIGITS}g}")

    return json.loads(json.dumps(value, default=methodcaller("tolist")), parse_float=rounded)


def read_record(path: Path) -> dict:
    """One record. Infinity and NaN stand in it as Python's json writes and reads them.

    Raises:
        UserError: if the file is no complete record.
    """
    cure = "restore it with git, or measure it anew with ocp-physmol experiments --again"
    with blame(f"record {path} cannot be read; {cure}", OSError, ValueError):
        record = json.loads(path.read_text())
    on_surfaces = isinstance(record, dict) and "part" in record
    try:
        validate(OnSurfaces if on_surfaces else OnMolecules, record)
    except UserError as e:
        raise UserError(f"record {path}: {e}; {cure}") from e
    for noise, found in record.get("recovery", {}).items():  # which older records say less of
        record["recovery"][noise] = displacement_summary(found["displacements"]) | found
    return record


def read_records(folder: Path) -> dict[str, list[dict]]:
    """All records in `folder`/EXPERIMENT/RUN.json, by experiment, in the order of its file.

    Raises:
        UserError: if there are no records, or one is damaged.
    """
    experiments: dict[str, list[dict]] = {}
    for path in sorted(folder.glob("*/*.json")):
        experiments.setdefault(path.parent.name, []).append(read_record(path))
    if not experiments:
        problem = "holds no records" if folder.is_dir() else "does not exist"
        raise UserError(f"--records {folder} {problem}; make records with ocp-physmol experiments")
    return {n: sorted(found, key=lambda r: r["place"]) for n, found in experiments.items()}
