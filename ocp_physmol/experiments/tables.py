"""Records as tables, for a terminal, a page or a file."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate


class Column(NamedTuple):
    """A number that a record has."""

    path: str  # its keys, joined by "/"
    label: str  # with the unit
    form: str  # as of `format`
    best: str = ""  # "min" or "max"; empty where neither is better
    nothing: str = ""  # the path of the value without any relaxation

    def shown(self, value: float) -> str:
        """A value for people."""
        if math.isnan(value):
            return "–"
        return "∞" if math.isinf(value) else format(value, self.form)


class Table(NamedTuple):
    """Texts, and of the same shape whether each is the best of its column."""

    texts: pd.DataFrame
    best: pd.DataFrame


def numbers(records: list[dict], columns: dict[str, Column]) -> pd.DataFrame:
    """A row a record, by name, and the columns by their keys; NaN where a record lacks one."""
    flat = pd.json_normalize(records, sep="/").reindex(columns=[c.path for c in columns.values()])
    return pd.DataFrame(flat.to_numpy(float), [record["name"] for record in records], list(columns))


def table(records: list[dict], columns: Iterable[Column]) -> Table:
    """A row a record, the best values of each column marked; last the values of doing nothing."""
    by_label = {column.label: column for column in columns}
    values = numbers(records, by_label)
    texts = pd.DataFrame({label: values[label].map(c.shown) for label, c in by_label.items()})
    best = pd.DataFrame(False, texts.index, texts.columns)
    for label, column in by_label.items():
        finite = values[label][values[label].map(math.isfinite)]
        if column.best and len(finite) > 1 and texts[label].nunique() > 1:
            best[label] = texts[label] == column.shown(finite.agg(column.best))
    if records and any(column.nothing for column in by_label.values()):
        paths = {label: column._replace(path=column.nothing) for label, column in by_label.items()}
        before = numbers(records[:1], paths).iloc[0]
        texts.loc["do nothing"] = [
            column.shown(before[label]) if column.nothing else ""
            for label, column in by_label.items()
        ]
        best.loc["do nothing"] = False
    return Table(texts, best)


def plain(content: Table) -> str:
    """A table for a terminal, whose columns are numbered and explained below."""
    numbered = {f"({i})": label for i, label in enumerate(content.texts, start=1)}
    text = tabulate(
        content.texts.reset_index(), ["", *numbered], tablefmt="plain", showindex=False,
        disable_numparse=True, colalign=["left", *["right"] * len(numbered)],
    )  # fmt: skip
    legend = [f"{number} {label}" for number, label in numbered.items()]
    return "\n".join([text, "", *legend])


def markdown(content: Table) -> str:
    """A table for the documentation, the best values in bold."""
    texts = content.texts.mask(content.best, "**" + content.texts + "**")
    cells = texts.reset_index(names="").astype(str)
    return tabulate(cells, "keys", tablefmt="github", showindex=False, disable_numparse=True) + "\n"


def _delta_p(noise: str, label: str, key: str = "delta_p_a") -> Column:
    nothing = f"recovery/{noise}/do_nothing_delta_p_a"
    return Column(f"recovery/{noise}/{key}", label, ".3f", "min", nothing)


def _interval(noise: str, key: str) -> tuple[Column, Column]:
    """Between which a number lies with 95 % confidence."""
    ends = {"low": "from (Å)", "high": "to (Å)"}
    name = "median" if key.startswith("median") else "mean"
    low, high = (Column(f"recovery/{noise}/{key}_{end}_a", f"{name}, {text}", ".3f")
                 for end, text in ends.items())  # fmt: skip
    return low, high


def _outcomes(noise: str) -> tuple[Column, ...]:
    """Shares of the relaxations after one noise."""
    return (
        Column(f"recovery/{noise}/converged_fraction", "converged", ".0%", "max"),
        Column(f"recovery/{noise}/far_fraction", "beyond 0.2 Å", ".0%", "min"),
        Column(f"recovery/{noise}/drifted_fraction", "beyond 0.5 Å", ".0%", "min"),
        Column(f"recovery/{noise}/broken_fraction", "other bonds", ".0%", "min"),
    )


DELTA_P = _delta_p("0.1", "ΔP, pushed by 0.1 Å (Å)")
IMAGINARY = Column("vibrations/minimum/imaginary_fraction", "imaginary modes", ".1%", "min")
RATIO = Column("vibrations/minimum/median_ratio", "frequency ratio to DFT", ".2f")
ASSEMBLED = Column("assembly/success_fraction", "assembled", ".0%", "max",
                   "assembly/do_nothing_success_fraction")  # fmt: skip

# by the names of columns in CSV files
TABLE1 = {
    "energy_mae_mev": Column("errors/energy_mae_mev", "energy MAE (meV)", ".1f", "min"),
    "force_mae_ev_per_a": Column("errors/force_mae_ev_per_a", "force MAE (eV/Å)", ".3f", "min"),
    "delta_p_0_a": _delta_p("0", "ΔP, not pushed (Å)"),
    "delta_p_0.05_a": _delta_p("0.05", "ΔP, pushed by 0.05 Å (Å)"),
    "delta_p_0.1_a": DELTA_P,
    **dict(zip(("converged_0.1", "far_0.1", "drifted_0.1", "broken_0.1"), _outcomes("0.1"))),
    "imaginary_modes": IMAGINARY,
    "frequency_ratio": RATIO,
    "assembled": ASSEMBLED,
    "training_steps": Column("steps", "steps", ",.0f"),
    "parameters": Column("parameters", "weights", ",.0f"),
}
ABLATION = {key: TABLE1[key] for key in ("energy_mae_mev", "force_mae_ev_per_a", "delta_p_0.1_a")}
ASSEMBLY = (
    ASSEMBLED,
    Column("assembly/delta_p_a", "ΔP, mean (Å)", ".3f", "min", "assembly/do_nothing_delta_p_a"),
    Column("assembly/median_delta_p_a", "ΔP, median (Å)", ".3f", "min"),
    Column("assembly/converged_fraction", "converged", ".0%", "max"),
    Column("assembly/exploded_fraction", "exploded", ".0%", "min"),
    Column("assembly/num_molecules", "molecules", ".0f"),
)


def recovery_columns(noise: str) -> list[Column]:
    """All about the relaxations after one noise."""
    return [
        _delta_p(noise, "ΔP, mean (Å)"),
        *_interval(noise, "delta_p"),
        _delta_p(noise, "ΔP, median (Å)", "median_delta_p_a"),
        *_interval(noise, "median_delta_p"),
        Column(f"recovery/{noise}/median_energy_change_ev", "|ΔE_g|, median (eV)", ".3g", "min"),
        *_outcomes(noise),
        Column(f"recovery/{noise}/exploded_fraction", "exploded", ".0%", "min"),
    ]


def vibration_columns(bands: Iterable[str]) -> list[Column]:
    """Frequencies as a whole, and by bands of DFT's."""
    at, where = "vibrations/reference/imaginary_fraction", "vibrations/minimum"
    return [
        RATIO,
        IMAGINARY,
        Column(at, "imaginary modes at DFT's minima", ".1%", "min"),
        Column(f"{where}/converged_fraction", "minima converged", ".0%", "max"),
        *(Column(f"{where}/bands/{band}/mae_per_cm", f"MAE, {band} (1/cm)", ".0f", "min")
          for band in bands),
        *(Column(f"{where}/bands/{band}/median_ratio", f"ratio, {band}", ".2f") for band in bands),
    ]  # fmt: skip
