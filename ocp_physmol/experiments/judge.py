"""Everything that is measured of one trained model, as a record: ocp-physmol judge --help"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from torch_geometric.data import Data

from ocp_physmol.checkpoint import read_checkpoint, seconds_used
from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.datasets.qm9 import SPLITS
from ocp_physmol.errors import UserError
from ocp_physmol.evaluation import assembly, recovery, vibrations
from ocp_physmol.evaluation.assembly import assemble
from ocp_physmol.evaluation.bond_parameters import bond_parameters, has_pair_energy
from ocp_physmol.evaluation.energy_force_errors import energy_and_force_errors
from ocp_physmol.evaluation.molecule_sets import paper_set
from ocp_physmol.evaluation.recovery import recover
from ocp_physmol.experiments.records import compact, write_record
from ocp_physmol.figures.bond_parameters import most_frequent
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

NOISES = (0.0, 0.05, 0.1)  # Angstrom
BATCH_SIZE = 128  # of relaxations
VIBRATING = 32  # molecules, whose Hessians cost most
PAIRS = 1500  # of frequencies to keep
PARAMETRIZED = 128  # molecules whose pairs of atoms are looked at
PAIR_SAMPLES = 40  # to keep of each kind
RECOVERED = (1, 7, 35, 87)  # to draw, by GDB index: methane, ethane, and the paper's two
ASSEMBLED = (35, 87)  # the paper's Fig. 3


def judge(checkpoints: Path, data: Path, molecules: int) -> dict:
    """Measure a trained model.

    Args:
        checkpoints: the folder of `best_checkpoint.pt`, which is judged, and `checkpoint.pt`, which
            knows what the training took.
        data: the folder of the splits; the test split is measured on.
        molecules: to relax, half of them the smallest.

    Returns:
        The keys of a record that say what came of the training; see the functions below.
    """
    predictor = Predictor.open(checkpoints / "best_checkpoint.pt")
    state = read_checkpoint(checkpoints / "checkpoint.pt")
    structures = open_labelled(data / "test")
    indices = paper_set(structures, molecules - molecules // 2, molecules // 2)
    chosen = [structures[i] for i in indices]
    errors = energy_and_force_errors(predictor, structures)
    record = {
        "seconds_used": seconds_used(state),
        "steps": int(state["step"]),
        "parameters": sum(p.numel() for p in predictor.model.parameters()),
        "data": {**json.loads((data / "report.json").read_text()), "judged": len(structures)},
        "protocol": protocols(),
        "errors": {key: errors[key] for key in ("energy_mae_mev", "force_mae_ev_per_a")},
        "sids": [identifier(s.sid) for s in chosen],
        "recovery": recoveries(predictor, chosen),
        "vibrations": frequencies(predictor, structures, min(VIBRATING, molecules)),
        "assembly": assemblies(predictor, chosen),
        "pictures": pictures(predictor, data, structures),
    }
    if has_pair_energy(predictor.model):
        record["bond_parameters"] = pair_energies(predictor, structures)
    return compact(record)


def protocols() -> dict[str, str]:
    """What was done, in words, for the captions of tables and figures."""
    distance = assembly.Protocol.distance
    return {
        "recovery": f"{recovery.Protocol()}, in batches of {BATCH_SIZE}",
        "vibrations": f"at the model's minimum: {vibrations.TO_MINIMUM}; Hessians by differences "
                      f"of forces at ±{vibrations.DISPLACEMENT} Å",
        "assembly": f"one or two groups moved by {distance} Å; {assembly.Protocol()}",
    }  # fmt: skip


def recoveries(predictor: Predictor, structures: Sequence[Data]) -> dict[str, dict]:
    """By noise in Angstrom, what became of relaxations: summaries, and lists by molecule."""
    kept = ("displacements", "energy_changes_ev", "broken", "converged")
    return {
        f"{noise:g}": _kept(
            recover(predictor, structures, _pushed(noise), BATCH_SIZE, f"noise {noise} Å"), kept
        )
        for noise in NOISES
    }


def _pushed(noise: float) -> recovery.Protocol:
    return replace(recovery.Protocol(), noise=noise)


def _kept(result: dict, lists: tuple[str, ...]) -> dict:
    """The summaries of a result, and some of its lists, truth values as 0 and 1."""
    summary = {key: value for key, value in result.items() if not isinstance(value, list)}
    return {**summary, **{key: (np.array(result[key]) * 1).tolist() for key in lists}}


def frequencies(
    predictor: Predictor, structures: Sequence[Data], molecules: int
) -> dict[str, dict]:
    """Harmonic frequencies at the model's minimum, and their summary at that of the data."""
    some = [structures[i] for i in range(min(molecules, len(structures)))]
    found = {at: vibrations.vibrations(predictor, some, at=at, name=at) for at in vibrations.PLACES}
    pairs = np.array(found["minimum"]["pairs"])
    if len(pairs) > PAIRS:
        pairs = np.random.default_rng(0).choice(pairs, PAIRS, replace=False)
    found["minimum"]["pairs"] = np.rint(pairs).astype(int)
    del found["reference"]["pairs"]
    return found


def assemblies(predictor: Predictor, structures: Sequence[Data]) -> dict:
    """Molecule assembly: summaries, and lists by molecule."""
    result = assemble(predictor, structures, assembly.Protocol(), BATCH_SIZE)
    return _kept(result, ("displacements", "success", "sids"))


def pictures(predictor: Predictor, data: Path, structures: Sequence[Data]) -> dict[str, list[dict]]:
    """Molecules to draw, of `recovery` and `assembly`: where relaxations began and ended.

    Those of RECOVERED and ASSEMBLED that the data has, with the split that holds them (the smallest
    molecules are mostly in the training split), and for recovery the first of the largest of
    `structures`, the test split.
    """
    found = _by_index(data, {*RECOVERED, *ASSEMBLED})
    large = max(structures, key=lambda s: int((s.atomic_numbers > 1).sum()))
    found.setdefault(identifier(large.sid), (large, "test"))
    chosen: dict[str, list] = {
        "recovery": [i for i in (*RECOVERED, identifier(large.sid)) if i in found],
        "assembly": [i for i in ASSEMBLED if i in found],
    }
    drawn = {}
    for task, indices in chosen.items():
        entries = [found[i][0] for i in indices]
        if task == "recovery":
            result = recover(predictor, entries, recovery.Protocol(), name="drawn")
            before, after = result["perturbed"], result["relaxed"]
        elif entries:
            result = assemble(predictor, entries, assembly.Protocol(), name="drawn")
            before, after = result["cut"], result["assembled"]
        drawn[task] = [
            {
                "gdb": i, "split": found[i][1], "numbers": entry.atomic_numbers.int().numpy(),
                "displacement": result["displacements"][k], "broken": result["broken"][k],
                **_centered(entry.pos.numpy(), start=before[k], end=after[k]),
            }
            for k, (i, entry) in enumerate(zip(indices, entries))
        ]  # fmt: skip
    return drawn


def _by_index(data: Path, indices: set[int]) -> dict[int | str, tuple[Data, str]]:
    """Entries with these GDB indices, and the names of their splits."""
    found: dict[int | str, tuple[Data, str]] = {}
    for split in SPLITS:
        for entry in open_labelled(data / split):
            if identifier(entry.sid) in indices:
                found[identifier(entry.sid)] = (entry, split)
    return found


def _centered(reference: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
    """Positions relative to the centre of the reference, to 0.001 Angstrom."""
    center = reference.mean(axis=0)
    return {k: (p - center).round(3) for k, p in {"reference": reference, **others}.items()}


def pair_energies(predictor: Predictor, structures: Sequence[Data]) -> dict:
    """The most frequent of `bond_parameters`, in few samples."""
    some = [structures[i] for i in range(min(PARAMETRIZED, len(structures)))]
    result = bond_parameters(predictor, some, samples=PAIR_SAMPLES)
    often = most_frequent(result["pairs"])
    for key in ("pairs", "curves"):
        result[key] = {e: result[key][e] for e in often if e in result[key]}
    return result


@click.command("judge", context_settings={"show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="The record to write."
)
@click.option(
    "--data", type=click.Path(path_type=Path), default="data/quickstart",
    help="Folder of the splits.",
)  # fmt: skip
@click.option("--molecules", type=click.IntRange(1), default=256, help="How many to relax.")
def command(run: Path, output: Path, data: Path, molecules: int) -> None:
    """Measure the model that `ocp-physmol experiments` has trained in the folder RUN."""
    vibrations.require_frequencies(data / "test")
    try:
        description = json.loads((run / "run.json").read_text())
    except (OSError, ValueError) as e:
        raise UserError(
            f"{run / 'run.json'} cannot be read ({e}); train the model with ocp-physmol experiments"
        ) from e
    measured = judge(run / "checkpoints/run", data, molecules)
    seconds = {"budget": description["seconds"], "used": measured.pop("seconds_used")}
    write_record(output, {**description, **measured, "seconds": seconds})
