"""Everything that is measured of one trained model, as a record: ocp-physmol judge --help"""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch_geometric.data import Data

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.datasets.qm9 import SPLITS
from ocp_physmol.errors import blame
from ocp_physmol.evaluation import assembly, recovery, vibrations
from ocp_physmol.evaluation.bond_parameters import bond_parameters, has_pair_energy
from ocp_physmol.evaluation.energy_force_errors import energy_and_force_errors
from ocp_physmol.evaluation.molecule_sets import MOLECULES, paper_set
from ocp_physmol.experiments.records import compact
from ocp_physmol.experiments.trained import open_run
from ocp_physmol.figures.bond_parameters import most_frequent
from ocp_physmol.files import write_json
from ocp_physmol.harmonic import DISPLACEMENT
from ocp_physmol.option_types import COUNT, PATH
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

NOISES = (0.0, 0.05, 0.1)  # Angstrom
BATCH_SIZE = 128  # of relaxations
VIBRATING = 64  # molecules, whose Hessians cost most
PAIRS = 1500  # of frequencies to keep
PARAMETRIZED = 128  # molecules whose pairs of atoms are looked at
PAIR_SAMPLES = 40  # to keep of each kind
RECOVERED = (1, 7, 35, 87)  # to draw, by GDB index: methane, ethane, and the paper's two
ASSEMBLED = (35, 87)  # the paper's Fig. 3
PROTOCOLS = {  # in words, for the captions of tables and figures
    "recovery": f"{recovery.Protocol()}, in batches of {BATCH_SIZE}",
    "vibrations": f"at the model's minimum: {vibrations.TO_MINIMUM}, and from saddle points "
                  f"downhill; Hessians by differences of forces at ±{DISPLACEMENT} Å",
    "assembly": f"one or two groups moved by {assembly.Protocol.distance} Å; {assembly.Protocol()}",
}  # fmt: skip


def judge(run: Path, description: dict, data: Path, molecules: int) -> dict:
    """The measured part of a record: of the training in the folder `run`, on the test split.

    The `description` of the run is the other part. Half of the `molecules` that are relaxed are the
    smallest.
    """
    predictor, trained = open_run(run, description["config"]["complete"], data)
    structures = open_labelled(data / "test")
    indices = paper_set(structures, molecules - molecules // 2, molecules // 2)
    chosen = [structures[i] for i in indices]
    errors = energy_and_force_errors(predictor, structures)
    assembled = assembly.assemble(predictor, chosen, assembly.Protocol(), BATCH_SIZE)
    record = {
        **trained,
        "data": {**json.loads((data / "report.json").read_text()), "judged": len(structures)},
        "protocol": PROTOCOLS,
        "errors": {key: errors[key] for key in ("energy_mae_mev", "force_mae_ev_per_a")},
        "sids": [identifier(s.sid) for s in chosen],
        "recovery": recoveries(predictor, chosen),
        "vibrations": frequencies(predictor, structures, min(VIBRATING, molecules)),
        "assembly": _kept(assembled, ("displacements", "success", "sids")),
        "pictures": pictures(predictor, data, structures),
    }
    if predictor.refused:
        record["refused"] = dict(predictor.refused)
    if has_pair_energy(predictor.model):
        record["bond_parameters"] = pair_energies(predictor, structures)
    return compact(record)


def recoveries(predictor: Predictor, structures: Sequence[Data]) -> dict[str, dict]:
    """By noise in Angstrom, the outcome of relaxations: summaries, and lists by molecule."""
    found = {}
    for noise in NOISES:
        protocol, name = recovery.Protocol(noise=noise), f"noise {noise} Å"
        result = recovery.recover(predictor, structures, protocol, BATCH_SIZE, name)
        lists = ("displacements", "energy_changes_ev", "broken", "converged")
        found[f"{noise:g}"] = _kept(result, lists)
    return found


def _kept(result: dict, lists: tuple[str, ...]) -> dict:
    """The summaries of a result, and some of its lists, truth values as 0 and 1."""
    summary = {key: value for key, value in result.items() if not isinstance(value, list)}
    return {**summary, **{key: (np.array(result[key]) * 1).tolist() for key in lists}}


def frequencies(
    predictor: Predictor, structures: Sequence[Data], molecules: int
) -> dict[str, dict]:
    """Harmonic frequencies at the model's minimum, and their summary at that of the data."""
    some = list(islice(structures, molecules))
    found = {at: vibrations.vibrations(predictor, some, at=at, name=at) for at in vibrations.PLACES}
    pairs = np.array(found["minimum"]["pairs"])
    if len(pairs) > PAIRS:
        pairs = np.random.default_rng(0).choice(pairs, PAIRS, replace=False)
    found["minimum"]["pairs"] = np.rint(pairs).astype(int)
    del found["reference"]["pairs"]
    return found


def pictures(predictor: Predictor, data: Path, structures: Sequence[Data]) -> dict[str, list[dict]]:
    """Molecules to draw, of `recovery` and `assembly`: where relaxations began and ended.

    They are RECOVERED and ASSEMBLED, as far as the data has them, each with the split that holds it
    (the smallest molecules are mostly in the training split), and for recovery the first of the
    largest of `structures`, the test split. Positions are relative to the centre of the minimum.
    """
    large = max(structures, key=lambda s: int((s.atomic_numbers > 1).sum()))
    recovered = (*RECOVERED, identifier(large.sid))
    wanted = {*recovered, *ASSEMBLED}
    entries = ((entry, split) for split in SPLITS for entry in open_labelled(data / split))
    found = {identifier(e.sid): (e, split) for e, split in entries if identifier(e.sid) in wanted}
    tasks: dict[str, Any] = {
        "recovery": (recovered, recovery.recover, recovery.Protocol(), "perturbed", "relaxed"),
        "assembly": (ASSEMBLED, assembly.assemble, assembly.Protocol(), "cut", "assembled"),
    }  # fmt: skip
    drawn: dict[str, list[dict]] = {task: [] for task in tasks}
    for task, (indices, function, protocol, before, after) in tasks.items():
        chosen = [i for i in indices if i in found]
        minima = [found[i][0] for i in chosen]
        result = function(predictor, minima, protocol, name="drawn") if minima else {}
        for k, (i, entry) in enumerate(zip(chosen, minima)):
            minimum = entry.pos.numpy()
            states = {"reference": minimum, "start": result[before][k], "end": result[after][k]}
            drawn[task].append({
                "gdb": i, "split": found[i][1], "numbers": entry.atomic_numbers.int().numpy(),
                "displacement": result["displacements"][k], "broken": result["broken"][k],
                **{key: (pos - minimum.mean(axis=0)).round(3) for key, pos in states.items()},
            })  # fmt: skip
    return drawn


def pair_energies(predictor: Predictor, structures: Sequence[Data]) -> dict:
    """The most frequent of `bond_parameters`, in few samples."""
    some = list(islice(structures, PARAMETRIZED))
    result = bond_parameters(predictor, some, samples=PAIR_SAMPLES)
    often = most_frequent(result["pairs"])
    for key in ("pairs", "curves"):
        result[key] = {e: result[key][e] for e in often if e in result[key]}
    return result


def description_of(run: Path) -> dict:
    """What `ocp-physmol experiments` has written about a training in the folder `run`."""
    cure = "train the model with ocp-physmol experiments"
    with blame(f"{run / 'run.json'} cannot be read; {cure}", OSError, ValueError):
        return json.loads((run / "run.json").read_text())


def write_record(output: Path, description: dict, measured: dict) -> None:
    """Write the record of a training: what `description_of` gives, and what was measured."""
    seconds = {"budget": description["seconds"], "used": measured.pop("seconds_used")}
    write_json(output, {**description, **measured, "seconds": seconds})


@click.command("judge", context_settings={"show_default": True})
@click.argument("run", type=PATH)
@click.option("--output", type=PATH, required=True, help="The record to write.")
@click.option("--data", type=PATH, default="data/quickstart", help="Folder of the splits.")
@click.option("--molecules", type=COUNT, default=MOLECULES, help="How many to relax.")
def command(run: Path, output: Path, data: Path, molecules: int) -> None:
    """Measure the model that `ocp-physmol experiments` has trained in the folder RUN."""
    vibrations.require_frequencies(data / "test")
    description = description_of(run)
    write_record(output, description, judge(run, description, data, molecules))
