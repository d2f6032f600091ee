"""Records of trainings on surfaces as one table with a row a model."""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd

from ocp_physmol.datasets.surfaces import SEEN
from ocp_physmol.experiments.tables import TABLE1, Column, Table, table

KINDS = (SEEN, "unseen")
# path in a record, path of the same without a model, label, form, what is best
MEASURED = (
    ("errors/energy_mae_ev", "nothing/energy_mae_ev", "energy MAE (eV)", ".3f", "min"),
    ("errors/force_mae_ev_per_a", "nothing/force_mae_ev_per_a", "force MAE (eV/Å)", ".4f", "min"),
    ("errors/force_cosine", "nothing/force_cosine", "force cosine", ".3f", "max"),
    ("relaxations/adwt", "relaxations/do_nothing_adwt", "ADwT", ".0%", "max"),
    ("relaxations/energy_mae_ev", "", "energy MAE at the end (eV)", ".2f", "min"),
)
COLUMNS = [
    *(
        Column(f"{kind}/{path}", f"{kind}: {label}", form, best, nothing and f"{kind}/{nothing}")
        for kind in KINDS
        for path, nothing, label, form, best in MEASURED
    ),
    Column(f"{SEEN}/steps", f"{SEEN}: steps", ",.0f"),
    Column("parameters", "weights", ",.0f"),
]


def on_surfaces(records: list[dict]) -> bool:
    """Whether an experiment's records are of trainings on surfaces, not on molecules."""
    return "part" in records[0]


def table_of(records: list[dict]) -> Table:
    """All records of an experiment of either kind.

    On surfaces a row is a model: medians over seeds, for "unseen" of the means over folds.
    """
    if on_surfaces(records):
        return table(one_a_model(records), COLUMNS)
    return table(records, TABLE1.values())


def one_a_model(records: list[dict]) -> list[dict[str, Any]]:
    """For each model its `name`, `parameters`, and the numbers of MEASURED by "seen" and "unseen".

    A kind is left out where a seed lacks one of its parts: means over other folds do not compare.
    """
    rows: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        rows[record["model"]].append(record)
    found = []
    for model, members in rows.items():
        row = {"name": model, "parameters": members[0]["parameters"]}
        for kind in KINDS:
            wanted = {part for part in members[0]["parts"] if part.startswith(kind)}
            trained = [record for record in members if record["part"] in wanted]
            if trained and _is_complete(trained, wanted):
                row[kind] = _averaged(trained)
        found.append(row)
    return found


def _is_complete(records: list[dict], parts: set[str]) -> bool:
    by_seed: dict[int, set[str]] = defaultdict(set)
    for record in records:
        by_seed[record["seed"]].add(record["part"])
    return all(trained == parts for trained in by_seed.values())


def _averaged(records: list[dict]) -> dict[str, float]:
    """Numbers by their path in a record: the median over seeds of the mean over parts."""
    flat = pd.json_normalize(records, sep="/")
    keys = [key for path, nothing, *_ in MEASURED for key in (path, nothing) if key]
    values = flat[[*keys, "steps"]].astype(float).fillna(np.inf)  # NaN would be left out
    return values.groupby(flat["seed"]).mean().median().to_dict()
