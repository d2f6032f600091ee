"""Records as tables, for a terminal or a page."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Column(NamedTuple):
    """A number that a record has."""

    key: str  # in CSV files, with its unit
    label: str  # for people
    value: Callable[[dict], float | None]
    form: str
    best: Callable | None = None  # min or max; None where neither is better
    nothing: Callable[[dict], float | None] | None = None  # the value of doing nothing


class Cell(NamedTuple):
    """What a place of a table shows."""

    text: str
    best: bool = False


class Table(NamedTuple):
    """Labels of columns, and rows of as many cells; the first names the row."""

    header: list[str]
    rows: list[list[Cell]]


def at(*keys: str) -> Callable[[dict], float | None]:
    """The value under nested keys of a record; None where one is missing."""

    def value(record: dict):
        for key in keys:
            record = record.get(key) if isinstance(record, dict) else None
        return record

    return value


def _delta_p(noise: str, label: str, key: str = "delta_p_a") -> Column:
    doing_nothing = at("recovery", noise, "do_nothing_delta_p_a")
    name = f"{key[:-2]}_{noise}_a"
    return Column(name, label, at("recovery", noise, key), ".3f", min, doing_nothing)


ENERGY = Column("energy_mae_mev", "energy MAE (meV)", at("errors", "energy_mae_mev"), ".1f", min)
FORCE = Column("force_mae_ev_per_a", "force MAE (eV/Å)", at("errors", "force_mae_ev_per_a"), ".3f",
               min)  # fmt: skip
DELTA_P = _delta_p("0.1", "ΔP, pushed by 0.1 Å (Å)")
IMAGINARY = Column("imaginary_modes", "imaginary modes",
                   at("vibrations", "minimum", "imaginary_fraction"), ".1%", min)  # fmt: skip
RATIO = Column("frequency_ratio", "frequency ratio to DFT",
               at("vibrations", "minimum", "median_ratio"), ".2f")  # fmt: skip
ASSEMBLED = Column("assembled", "assembled", at("assembly", "success_fraction"), ".0%", max,
                   at("assembly", "do_nothing_success_fraction"))  # fmt: skip
TRAINING = (
    Column("training_steps", "steps", at("steps"), ",d"),
    Column("parameters", "weights", at("parameters"), ",d"),
)


def _shares(noise: str) -> tuple[Column, ...]:
    """What became of the relaxations."""
    return (
        Column(f"converged_{noise}", "converged", at("recovery", noise, "converged_fraction"),
               ".0%", max),
        Column(f"drifted_{noise}", "beyond 0.5 Å", at("recovery", noise, "drifted_fraction"),
               ".0%", min),
        Column(f"broken_{noise}", "other bonds", at("recovery", noise, "broken_fraction"),
               ".0%", min),
    )  # fmt: skip


TABLE1 = (
    ENERGY,
    FORCE,
    _delta_p("0", "ΔP, not pushed (Å)"),
    _delta_p("0.05", "ΔP, pushed by 0.05 Å (Å)"),
    DELTA_P,
    *_shares("0.1"),
    IMAGINARY,
    RATIO,
    ASSEMBLED,
    *TRAINING,
)
ABLATION = (ENERGY, FORCE, DELTA_P)


def recovery_columns(noise: str) -> tuple[Column, ...]:
    """All about the relaxations after one noise."""
    return (
        _delta_p(noise, "ΔP, mean (Å)"),
        _delta_p(noise, "ΔP, median (Å)", "median_delta_p_a"),
        Column(f"median_energy_change_{noise}_ev", "|ΔE_g|, median (eV)",
               at("recovery", noise, "median_energy_change_ev"), ".3g", min),
        *_shares(noise),
        Column(f"exploded_{noise}", "exploded", at("recovery", noise, "exploded_fraction"),
               ".0%", min),
    )  # fmt: skip


def vibration_columns(bands: Sequence[str]) -> tuple[Column, ...]:
    """Frequencies as a whole, and by bands of DFT's."""
    where = ("vibrations", "minimum")
    return (
        RATIO,
        IMAGINARY,
        Column("imaginary_at_reference", "imaginary modes at DFT's minima",
               at("vibrations", "reference", "imaginary_fraction"), ".1%", min),
        Column("minima_converged", "minima converged", at(*where, "converged_fraction"),
               ".0%", max),
        *(Column(f"mae_{band}_per_cm", f"MAE, {band} (1/cm)",
                 at(*where, "bands", band, "mae_per_cm"), ".0f", min) for band in bands),
        *(Column(f"ratio_{band}", f"ratio, {band}",
                 at(*where, "bands", band, "median_ratio"), ".2f") for band in bands),
    )  # fmt: skip


ASSEMBLY = (
    ASSEMBLED,
    Column("assembly_delta_p_a", "ΔP, mean (Å)", at("assembly", "delta_p_a"), ".3f", min,
           at("assembly", "do_nothing_delta_p_a")),
    Column("assembly_median_delta_p_a", "ΔP, median (Å)", at("assembly", "median_delta_p_a"),
           ".3f", min),
    Column("assembly_converged", "converged", at("assembly", "converged_fraction"), ".0%", max),
    Column("assembly_exploded", "exploded", at("assembly", "exploded_fraction"), ".0%", min),
    Column("assembly_molecules", "molecules", at("assembly", "num_molecules"), "d"),
)  # fmt: skip


def table(records: list[dict], columns: Sequence[Column]) -> Table:
    """A row a record, the best values of each column marked; then what doing nothing gives."""
    marked = [_column(records, column) for column in columns]
    rows = [
        [Cell(record["name"]), *cells] for record, cells in zip(records, map(list, zip(*marked)))
    ]
    nothing = [shown(c, c.nothing(records[0])) if c.nothing else "" for c in columns]
    if any(nothing):
        rows.append([Cell("do nothing"), *map(Cell, nothing)])
    return Table(["", *(column.label for column in columns)], rows)


def _column(records: list[dict], column: Column) -> list[Cell]:
    values = [column.value(record) for record in records]
    texts = [shown(column, value) for value in values]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    if column.best is None or len(finite) < 2 or len(set(texts)) == 1:
        return [Cell(text) for text in texts]
    best = shown(column, column.best(finite))
    return [Cell(text, best=text == best) for text in texts]


def shown(column: Column, value: float | None) -> str:
    """A value for people."""
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else format(value, column.form)


def plain(content: Table) -> str:
    """A table for a terminal; what its columns are stands below."""
    lines = [[f"({i})" if i else "" for i in range(len(content.header))]]
    lines += [[cell.text for cell in row] for row in content.rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    legend = [f"({i}) {label}" for i, label in enumerate(content.header) if i]
    return "\n".join([*text, "", *legend])
