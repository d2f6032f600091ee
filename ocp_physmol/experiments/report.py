"""One page of all records: python -m ocp_physmol.experiments.report [--records records]

Writes report/index.html, which needs nothing beside itself, and the tables as CSV files.
"""

import argparse
from pathlib import Path

import yaml
from ase import Atoms
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from ocp_physmol.errors import UserError, exit_on_user_error
from ocp_physmol.experiments import paper_numbers
from ocp_physmol.experiments.records import read_records
from ocp_physmol.experiments.tables import (
    ASSEMBLY,
    TABLE1,
    recovery_columns,
    table,
    vibration_columns,
)
from ocp_physmol.figures import report as report_figures
from ocp_physmol.files import complete_or_absent

TEMPLATE = "report.html"
OWN_SECTIONS = ("table1", "ablation", "curve")  # all other experiments share one


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Command line of the report."""
    parser = argparse.ArgumentParser(
        prog="python -m ocp_physmol.experiments.report",
        description=__doc__.split("\n\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--records", type=Path, default=Path("records"), help="folder of records")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder to write to")
    args = parser.parse_args(arguments)
    experiments = read_records(args.records)
    if not experiments:
        raise UserError(
            f"--records {args.records} holds no records; make them with "
            "python -m ocp_physmol.experiments.command"
        )
    files = {
        "index.html": page(experiments),
        "table1.csv": _csv(paper_numbers.table1_csv(experiments.get("table1", []))),
        "table2.csv": _csv(paper_numbers.table2_csv(experiments.get("ablation", []))),
    }
    for name, content in files.items():
        with complete_or_absent(args.output / name) as partial:
            partial.write_text(content)
    print(f"Written: {', '.join(str(args.output / name) for name in files)}")


def _csv(frame) -> str:
    return frame.to_csv(index=False, float_format="%.6g")


def page(experiments: dict[str, list[dict]]) -> str:
    """The page, with all of its figures inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    bar = tqdm(total=4, desc="Report", unit=" sections")
    content = {"runs": _runs(experiments), "paper_table1": paper_numbers.paper_table1()}
    for name, make in (("models", _models), ("ablation", _ablation), ("curve", _curve)):
        records = experiments.get("table1" if name == "models" else name)
        content[name] = make(records) if records else None
        bar.update()
    content["others"] = [
        {"title": records[0]["title"], "table": table(records, TABLE1)}
        for name, records in experiments.items()
        if name not in OWN_SECTIONS
    ]
    bar.update()
    bar.close()
    return environment.get_template(TEMPLATE).render(**content)


def _models(records: list[dict]) -> dict:
    """All that compares the models of Table 1."""
    first = records[0]
    noises, bands = list(first["recovery"]), list(first["vibrations"]["minimum"]["bands"])
    return {
        **_conditions(records),
        "table1": table(records, TABLE1),
        "notes": _notes(records),
        "recovery": [
            {"noise": noise, "table": table(records, recovery_columns(noise)),
             "figure": report_figures.distributions(records, noise)}
            for noise in noises
        ],
        "vibrations": table(records, vibration_columns(bands)),
        "vibration_figures": report_figures.vibrations(records),
        "assembly": table(records, ASSEMBLY),
        "pictures": {task: _pictures(records, task) for task in first["pictures"]},
        "bonds": [
            {"name": r["name"], "figure": report_figures.bond_parameters(r)}
            for r in records
            if "bond_parameters" in r
        ],
    }  # fmt: skip


def _notes(records: list[dict]) -> dict[str, dict]:
    """What is to be said of some models, numbered."""
    noted = [record for record in records if record["note"]]
    return {r["name"]: {"number": k, "text": r["note"]} for k, r in enumerate(noted, start=1)}


def _conditions(records: list[dict]) -> dict:
    """What records have in common, to be said once."""
    first = records[0]
    return {
        "budgets": sorted({r["seconds"]["budget"] for r in records}),
        "machines": sorted({f"{r['machine']['processor']}, {r['machine']['threads']} of "
                            f"{r['machine']['cores']} cores" for r in records}),
        "data": first["data"],
        "protocol": first["protocol"],
        "judged": sorted({len(r["sids"]) for r in records}),
        "vibrating": first["vibrations"]["minimum"]["molecules"],
    }  # fmt: skip


def _pictures(records: list[dict], task: str) -> list[dict]:
    """Rows of pictures: a molecule at its minimum, where relaxations began, where each ended."""
    rows = []
    for drawn in records[0]["pictures"][task]:
        panels = [
            {"label": label, "figure": report_figures.molecule(drawn, key), "outcome": ""}
            for key, label in (("reference", "minimum"), ("start", "start"))
        ]
        for record in records:
            of_model = next((m for m in record["pictures"][task] if m["gdb"] == drawn["gdb"]), None)
            if of_model is None:
                continue
            broken = ", other bonds" if of_model["broken"] else ""
            panels.append({
                "label": record["name"],
                "figure": report_figures.molecule(of_model, "end"),
                "outcome": f"ΔP {of_model['displacement']:.2f} Å{broken}",
            })  # fmt: skip
        formula = Atoms(drawn["numbers"]).get_chemical_formula()
        rows.append({**drawn, "formula": formula, "panels": panels})
    return rows


def _ablation(records: list[dict]) -> dict:
    return {
        **_conditions(records),
        "table": paper_numbers.table2(records),
        "effects": paper_numbers.effects(records),
        "missing": len(paper_numbers.paper_table(2)) - len(records),
        "in_full": table(records, TABLE1),
    }


def _curve(records: list[dict]) -> dict:
    return {"figure": report_figures.curve(records), "table": table(records, TABLE1)}


def _runs(experiments: dict[str, list[dict]]) -> list[dict]:
    """What each run was, to be looked up."""
    return [
        {
            "title": f"{record['experiment']}: {record['name']}",
            "record": record,
            "config": yaml.safe_dump(record["config"]["complete"], sort_keys=False),
        }
        for records in experiments.values()
        for record in records
    ]


if __name__ == "__main__":
    main()
