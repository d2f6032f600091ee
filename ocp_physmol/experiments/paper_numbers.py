"""The paper's Tables 1 and 2 beside ours."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ocp_physmol.experiments.tables import ABLATION, TABLE1, Cell, Column, Table, shown, table

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


def paper_table(number: int, as_printed: bool = False) -> pd.DataFrame:
    """Table 1 by `model` (QM9 alone) or Table 2 by `row`; as numbers, or with printed digits."""
    path = FOLDER / f"table{number}.csv"
    if as_printed:
        return pd.read_csv(path, dtype=str).fillna("–").set_index(["model", "row"][number - 1])
    return pd.read_csv(path, index_col=0)


def paper_table1() -> Table:
    """The paper's Table 1 for people."""
    rows = [
        [Cell(model), *(Cell(row[key]) for key in METRICS)]
        for model, row in paper_table(1, as_printed=True).iterrows()
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
    paper = paper_table(2, as_printed=True)
    found = {record["name"]: record for record in records}
    ours = {row: found[row] for row in paper.index if row in found}
    marked = table(list(ours.values()), ABLATION).rows
    numbers = dict(zip(ours, (row[1:] for row in marked)))
    rows = [
        [
            Cell(number),
            *(Cell("✓" if row[key] == "1" else "") for key in COMPONENTS),
            *numbers.get(number, [Cell("–")] * len(METRICS)),
            *(Cell(row[key]) for key in METRICS),
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
    ours = {record["name"]: record for record in records}
    return [
        _effect(component, (str(without), str(with_it)), key, ours)
        for component, without, with_it, keys in EFFECTS
        for key in keys
    ]


def _effect(component: str, rows: tuple[str, str], key: str, ours: dict[str, dict]) -> Effect:
    column, printed = METRICS[key], paper_table(2, as_printed=True).loc[list(rows), key]
    before, after = (column.value(ours[row]) if row in ours else None for row in rows)
    same = None
    if before is not None and after is not None:
        same = (after < before) == (float(printed.iloc[1]) < float(printed.iloc[0]))
    return Effect(
        COMPONENTS[component],
        " → ".join(rows),
        column.label,
        " → ".join(printed),
        f"{shown(column, before)} → {shown(column, after)}",
        same,
    )
