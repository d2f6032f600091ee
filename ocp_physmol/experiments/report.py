"""One page of all records: ocp-physmol report"""

from functools import partial
from pathlib import Path

import click
import yaml
from ase import Atoms
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from ocp_physmol.experiments import paper_numbers
from ocp_physmol.experiments.options import FOLDER
from ocp_physmol.experiments.records import read_records
from ocp_physmol.experiments.tables import (
    ASSEMBLY,
    TABLE1,
    recovery_columns,
    table,
    vibration_columns,
)
from ocp_physmol.figures.bond_parameters import bond_parameters_figure
from ocp_physmol.figures.distributions import curve_figure, distribution_figure
from ocp_physmol.figures.molecules import thumbnail
from ocp_physmol.figures.style import as_data
from ocp_physmol.figures.vibrations import vibrations_figure
from ocp_physmol.files import complete_or_absent

SIDE_BY_SIDE = 2  # models in a figure of vibrations, for narrow screens


@click.command("report", context_settings={"show_default": True})
@click.option("--records", type=FOLDER, default="records", help="Folder of records.")
@click.option("--output", type=FOLDER, default="report", help="Folder to write to.")
def command(records: Path, output: Path) -> None:
    """Show all records in one page, index.html, which needs nothing beside itself.

    The tables are written as CSV files, too.
    """
    experiments = read_records(records)
    frames = {
        "table1.csv": paper_numbers.table1_csv(experiments.get("table1", [])),
        "table2.csv": paper_numbers.table2_csv(experiments.get("ablation", [])),
    }
    files = {"index.html": page(experiments)}
    files |= {name: f.to_csv(index=False, float_format="%.10g") for name, f in frames.items()}
    for name, content in files.items():
        with complete_or_absent(output / name) as path:
            path.write_text(content)
    click.echo(f"Written: {', '.join(str(output / name) for name in files)}")


def page(experiments: dict[str, list[dict]]) -> str:
    """The page, with all of its figures inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["yaml"] = partial(yaml.safe_dump, sort_keys=False)
    sections = {"table1": _models, "ablation": _ablation, "curve": _curve}
    content = {
        name: make(experiments[name]) if name in experiments else None
        for name, make in tqdm(sections.items(), "Report", unit=" sections")
    }
    others = [
        (records[0]["title"], table(records, TABLE1.values()))
        for name, records in experiments.items()
        if name not in sections
    ]
    return environment.get_template("report.html").render(
        experiments=experiments, paper_table1=paper_numbers.paper_table1(), others=others, **content
    )


def _models(records: list[dict]) -> dict:
    """All that compares the models of Table 1."""
    first = records[0]
    vibrations = {record["name"]: record["vibrations"]["minimum"] for record in records}
    groups = [list(vibrations)[i : i + SIDE_BY_SIDE] for i in range(0, len(records), SIDE_BY_SIDE)]
    return {
        **_conditions(records),
        "table": table(records, TABLE1.values()),
        "notes": {record["name"]: record["note"] for record in records if record["note"]},
        "recovery": [
            (noise, _distributions(records, noise), table(records, recovery_columns(noise)))
            for noise in first["recovery"]
        ],
        "vibrations": table(records, vibration_columns(first["vibrations"]["minimum"]["bands"])),
        "vibration_figures": [
            as_data(".png", vibrations_figure, {name: vibrations[name] for name in names})
            for names in groups
        ],
        "assembly": table(records, ASSEMBLY),
        "pictures": {task: _pictures(records, task) for task in first["pictures"]},
        "bonds": {
            record["name"]: as_data(".png", bond_parameters_figure, record["bond_parameters"])
            for record in records
            if "bond_parameters" in record
        },
    }


def _conditions(records: list[dict]) -> dict:
    """Conditions that all records share, and what some of them differ in."""
    first = records[0]
    return {
        "budgets": sorted({record["seconds"]["budget"] for record in records}),
        "machines": sorted({"{processor}, {threads} of {cores} cores".format(**record["machine"])
                            for record in records}),
        "data": first["data"],
        "protocol": first["protocol"],
        "judged": sorted({len(record["sids"]) for record in records}),
        "vibrating": first["vibrations"]["minimum"]["molecules"],
    }  # fmt: skip


def _distributions(records: list[dict], noise: str) -> str:
    results = {record["name"]: record["recovery"][noise] for record in records}
    nothing = records[0]["recovery"][noise]["do_nothing_delta_p_a"] if noise != "0" else None
    return as_data(".svg", distribution_figure, results, nothing)


def _pictures(records: list[dict], task: str) -> list[dict]:
    """Rows of pictures: a molecule at its minimum, where relaxations began, where each ended."""
    rows = []
    for first in records[0]["pictures"][task]:
        panels = [
            {"label": label, "figure": as_data(".png", thumbnail, first, key), "outcome": ""}
            for key, label in (("reference", "minimum"), ("start", "start"))
        ]
        for record in records:
            for drawn in record["pictures"][task]:
                if drawn["gdb"] == first["gdb"]:
                    broken = ", other bonds" if drawn["broken"] else ""
                    panels.append({
                        "label": record["name"],
                        "figure": as_data(".png", thumbnail, drawn, "end"),
                        "outcome": f"ΔP {drawn['displacement']:.2f} Å{broken}",
                    })  # fmt: skip
        formula = Atoms(first["numbers"]).get_chemical_formula()
        rows.append({**first, "formula": formula, "panels": panels})
    return rows


def _ablation(records: list[dict]) -> dict:
    return {
        **_conditions(records),
        "table": paper_numbers.table2(records),
        "effects": paper_numbers.effects(records),
        "missing": len(paper_numbers.paper_table(2)) - len(records),
        "in_full": table(records, TABLE1.values()),
    }


def _curve(records: list[dict]) -> dict:
    return {
        "figure": as_data(".svg", curve_figure, records),
        "table": table(records, TABLE1.values()),
    }
