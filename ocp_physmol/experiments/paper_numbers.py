"""The paper's Tables 1 and 2 beside ours."""

from pathlib import Path

import pandas as pd

from ocp_physmol.experiments.tables import ABLATION, TABLE1, Table, numbers, table

FOLDER = Path(__file__).parent / "paper"
# the paper's columns, and ours; it does not say how far its molecules were pushed
METRICS = dict(zip(("energy_mae_mev", "force_mae_ev_per_a", "delta_p_a"), ABLATION.values()))
COMPONENTS = {"cls": "[CLS]", "ljp": "LJP", "mask": "Mask", "force": "Force", "bound": "Bound"}
EFFECTS = (  # row without, row with, and what section 4.5 (of LJP: its table) says it improves
    ("cls", "1", "2", "energy_mae_mev"),
    ("ljp", "6", "10", "energy_mae_mev"),
    ("mask", "7", "10", "energy_mae_mev"),
    *(("force", "8", "10", metric) for metric in METRICS),
    ("bound", "9", "10", "delta_p_a"),
)


def paper_table(number: int, as_printed: bool = False) -> pd.DataFrame:
    """Table 1 by `model` (QM9 alone) or Table 2 by `row`; as numbers, or with printed digits."""
    printed = pd.read_csv(FOLDER / f"table{number}.csv", dtype=str)
    printed = printed.set_index(printed.columns[0])
    return printed.fillna("–") if as_printed else printed.astype(float)


def paper_table1() -> Table:
    """The paper's Table 1 for people."""
    labels = ["energy MAE (meV)", "force MAE (eV/Å)", "ΔP (Å)"]
    texts = paper_table(1, as_printed=True).set_axis(labels, axis=1).rename_axis(None)
    return Table(texts, pd.DataFrame(False, texts.index, texts.columns))


def table1_csv(records: list[dict]) -> pd.DataFrame:
    """Every record and model of the paper in a row, with ours beside the paper's numbers."""
    ours = numbers(records, TABLE1).rename_axis("model").reset_index()
    ours.insert(1, "paper_model", [record["paper"] for record in records])
    paper = paper_table(1).add_prefix("paper_")
    others = pd.DataFrame({"paper_model": paper.index.difference(ours["paper_model"], sort=False)})
    return pd.concat([ours, others]).join(paper, on="paper_model")


def table2(records: list[dict]) -> Table:
    """The ten rows: components, our numbers, the paper's. Records are called as the rows."""
    paper = paper_table(2, as_printed=True)
    ours = table([r for r in records if r["name"] in paper.index], ABLATION.values())
    labels = ["paper: energy (meV)", "paper: force (eV/Å)", "paper: ΔP (Å)"]
    components = paper[[*COMPONENTS]].replace({"1": "✓", "0": ""}).rename(columns=COMPONENTS)
    texts = components.join(ours.texts).join(paper[[*METRICS]].set_axis(labels, axis=1))
    best = ours.best.reindex(index=texts.index, columns=texts.columns, fill_value=False)
    return Table(texts.fillna("–"), best)


def table2_csv(records: list[dict]) -> pd.DataFrame:
    """The same for a file."""
    paper = paper_table(2).rename(columns={key: f"paper_{key}" for key in METRICS})
    return paper.join(numbers(records, ABLATION)).reset_index()


def effects(records: list[dict]) -> Table:
    """Whether each component does to our numbers what the paper says it does to its own.

    The last column is "yes", marked, or "no"; "–" where one of our rows is missing.
    """
    printed, paper = paper_table(2, as_printed=True), paper_table(2)
    ours = numbers(records, METRICS).reindex(paper.index)
    rows = []
    for component, *pair, key in EFFECTS:
        (before, after), (paper_before, paper_after) = ours.loc[pair, key], paper.loc[pair, key]
        same = (after < before) == (paper_after < paper_before)
        rows.append({
            "component": COMPONENTS[component],
            "rows": " → ".join(pair),
            "number": METRICS[key].label,
            "paper": " → ".join(printed.loc[pair, key]),
            "here": " → ".join(ours.loc[pair, key].map(METRICS[key].shown)),
            "same direction": "–" if ours.loc[pair, key].isna().any() else "yes" if same else "no",
        })  # fmt: skip
    texts = pd.DataFrame(rows).set_index("component")
    return Table(texts, texts == "yes")
