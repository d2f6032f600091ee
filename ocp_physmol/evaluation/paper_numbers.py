"""The paper's Tables 1 and 2 beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ocp_physmol.evaluation.tables import ABLATION, TABLE1, Cell, Column, Table, shown, table

FOLDER = Path(__file__).parent / "paper"
METRICS = {  # the paper's columns, and ours; it does not say how far its molecules were pushed
    "energy_mae_mev": ABLATION[0],
    "force_mae_ev_per_a": ABLATION[1],
    "delta_p_a": ABLATION[2],
}
COMPONENTS = {"cls": "[CLS]", "ljp": "LJP", "mask": "Mask", "force": "Force", "bound": "Bound"}
EFFECTS = (  # row without, row with, and what section 4.5 (of LJP: its table) says it improves
    ("cls", 1, 2, ("energy_mae_mev",)),
    ("ljp", 6, 10, ("energy_mae_mev",)),
    ("mask", 7, 10, ("energy_mae_mev",)),
    ("force", 8, 10, tuple(METRICS)),
    ("bound", 9, 10, ("delta_p_a",)),
)


class Effect(NamedTuple):
    """What adding a component does to a number, in the paper and here."""

    component: str
    rows: str
    metric: str
    paper: str
    ours: str
    same: bool | None  # direction; None if one of our rows is missing


def paper_table(number: int) -> pd.DataFrame:
    """Table 1 by `model` (QM9 alone) or Table 2 by `row`."""
    return pd.read_csv(FOLDER / f"table{number}.csv", index_col=0)


def paper_table1() -> Table:
    """The paper's Table 1 for people."""
    rows = [
        [Cell(model), *(Cell("–" if pd.isna(row[key]) else f"{row[key]:g}") for key in METRICS)]
        for model, row in paper_table(1).iterrows()
    ]
    return Table(["", "energy MAE (meV)", "force MAE (eV/Å)", "ΔP (Å)"], rows)


def table1_csv(records: list[dict]) -> pd.DataFrame:
    """Every record and model of the paper in a row, with ours beside the paper's numbers."""
    rows = [_values(record, TABLE1) for record in records]
    rows += [{"paper_model": model} for model in paper_table(1).index
             if model not in {record["paper"] for record in records}]  # fmt: skip
    paper = paper_table(1).add_prefix("paper_")
    return pd.DataFrame(rows).join(paper, on="paper_model")


def _values(record: dict, columns: tuple[Column, ...]) -> dict:
    numbers = {column.key: column.value(record) for column in columns}
    return {"model": record["name"], "paper_model": record["paper"], **numbers}


def table2(records: list[dict]) -> Table:
    """The ten rows: components, our numbers, the paper's. Records are called as the rows."""
    paper = paper_table(2)
    found = {record["name"]: record for record in records}
    ours = {str(row): found[str(row)] for row in paper.index if str(row) in found}
    marked = table(list(ours.values()), ABLATION).rows
    numbers = dict(zip(ours, (row[1:] for row in marked)))
    rows = [
        [
            Cell(str(number)),
            *(Cell("✓" if row[key] else "") for key in COMPONENTS),
            *numbers.get(str(number), [Cell("–")] * len(METRICS)),
            *(Cell(f"{row[key]:g}") for key in METRICS),
        ]
        for number, row in paper.iterrows()
    ]
    labels = [column.label for column in METRICS.values()]
    paper_labels = ["paper: energy (meV)", "paper: force (eV/Å)", "paper: ΔP (Å)"]
    return Table(["row", *COMPONENTS.values(), *labels, *paper_labels], rows)


def table2_csv(records: list[dict]) -> pd.DataFrame:
    """The same for a file."""
    paper = paper_table(2)
    ours = {r["name"]: {c.key: c.value(r) for c in ABLATION} for r in records}
    columns = [column.key for column in ABLATION]
    numbers = pd.DataFrame([ours.get(str(row), {}) for row in paper.index], paper.index, columns)
    renamed = paper.rename(columns={key: f"paper_{key}" for key in METRICS})
    return renamed.join(numbers).reset_index()


def effects(records: list[dict]) -> list[Effect]:
    """Whether each component does to our numbers what the paper says it does to its own."""
    paper = paper_table(2)
    ours = {record["name"]: record for record in records}
    found = []
    for component, without, with_it, keys in EFFECTS:
        for key in keys:
            before, after = paper.loc[without, key], paper.loc[with_it, key]
            column, pair = METRICS[key], [ours.get(str(row)) for row in (without, with_it)]
            values = [column.value(record) if record else None for record in pair]
            same = None
            if None not in values:
                same = bool((values[1] < values[0]) == (after < before))
            found.append(Effect(
                COMPONENTS[component], f"{without} → {with_it}", column.label,
                f"{before:g} → {after:g}", " → ".join(shown(column, v) for v in values), same,
            ))  # fmt: skip
    return found
