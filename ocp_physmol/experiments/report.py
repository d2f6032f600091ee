"""One page of all records: ocp-physmol report"""

from functools import partial
from pathlib import Path
from typing import Any

import click
import pandas as pd
import yaml
from ase import Atoms
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from ocp_physmol.experiments import paper_numbers, tables
from ocp_physmol.experiments.records import read_records
from ocp_physmol.experiments.surface_table import on_surfaces, table_of
from ocp_physmol.figures.bond_parameters import bond_parameters_figure
from ocp_physmol.figures.distributions import curve_figure, distribution_figure
from ocp_physmol.figures.molecules import thumbnail
from ocp_physmol.figures.style import as_data
from ocp_physmol.figures.vibrations import vibrations_figure
from ocp_physmol.files import complete_or_absent
from ocp_physmol.option_types import PATH

OWN_SECTIONS = ("table1", "ablation", "curve")  # all other experiments share one


@click.command("report", context_settings={"show_default": True})
@click.option("--records", type=PATH, default="records", help="Folder of records.")
@click.option("--output", type=PATH, default="report", help="Folder to write to.")
def command(records: Path, output: Path) -> None:
    """Show all records in one page, index.html, which needs nothing beside itself.

    The paper's tables are written as CSV files, those of experiments on surfaces as Markdown, too.
    """
    experiments = read_records(records)
    as_csv = partial(pd.DataFrame.to_csv, index=False, float_format="%.10g")
    files = {
        "index.html": page(experiments),
        "table1.csv": as_csv(paper_numbers.table1_csv(experiments.get("table1", []))),
        "table2.csv": as_csv(paper_numbers.table2_csv(experiments.get("ablation", []))),
    }
    for name, records_of in experiments.items():
        if on_surfaces(records_of):
            files[f"{name}.md"] = tables.markdown(table_of(records_of))
    for name, content in files.items():
        with complete_or_absent(output / name) as path:
            path.write_text(content)
    click.echo(f"Written: {', '.join(str(output / name) for name in files)}")


def page(experiments: dict[str, list[dict]]) -> str:
    """The page, with all of its figures inside. The template says which tables and figures."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        by_name=by_name, yaml=partial(yaml.safe_dump, sort_keys=False),
        machine="{processor}, {threads} of {cores} cores".format_map,
    )  # fmt: skip
    environment.globals.update(
        Atoms=Atoms, tables=tables, table_of=table_of, summary=tables.TABLE1.values(),
        paper=paper_numbers,
        distributions=partial(as_data, ".svg", distribution_figure),
        vibrations=partial(as_data, ".png", vibrations_figure),
        bond_parameters=partial(as_data, ".png", bond_parameters_figure),
        curve_of=partial(as_data, ".svg", curve_figure),
        molecule=partial(as_data, ".png", thumbnail),
    )  # fmt: skip
    others = [records for name, records in experiments.items() if name not in OWN_SECTIONS]
    template = environment.get_template("report.html")
    parts = template.generate(experiments=experiments, others=others)
    return "".join(tqdm(parts, "Report", unit=" parts"))


def by_name(records: list[dict], measurement: str, key: str) -> dict[str, Any]:
    """One result of a measurement of each record."""
    return {record["name"]: record[measurement][key] for record in records}
