"""Methods of `ocp-physmol relax` on molecules held out of a training: python benchmarks/held_out.py

Energies and forces at DFT's minima, relaxations from there and from beside, frequencies, and what
the spread of several models says of their errors.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from ase import Atoms
from scipy.stats import spearmanr
from tabulate import tabulate

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.evaluation.deviations import displacement_summary, mean_displacement
from ocp_physmol.evaluation.vibrations import require_frequencies
from ocp_physmol.files import write_json
from ocp_physmol.geometry import bonds
from ocp_physmol.molecules.methods import METHODS, Method, OtherMethod, open_methods
from ocp_physmol.molecules.relaxation import End, relax
from ocp_physmol.molecules.vibrations import vibrations
from ocp_physmol.option_types import COUNT, PATH, POSITIVE
from ocp_physmol.potential.calculator import largest
from ocp_physmol.progress import chunks
from ocp_physmol.relaxation.predictor import open_labelled

NOISES = (0.0, 0.05, 0.1)  # Angstrom, of every coordinate
TIGHT, LONG = 0.003, 1000  # eV/Angstrom and steps, before frequencies
FALSE_ALARMS = 0.05
FAR = 0.2  # Angstrom


@click.command(params=[METHODS], context_settings={"show_default": True})
@click.option("--data", type=PATH, default="data/qm9/test", help="An LMDB of QM9.")
@click.option("--molecules", type=COUNT, default=1000, help="Taken at random from it.")
@click.option("--frequencies", type=COUNT, default=100, help="Of the first so many of these.")
@click.option("--fmax", type=POSITIVE, default=0.01, help="eV/Å.")
@click.option("--steps", type=COUNT, default=500)
@click.option("--output", type=PATH, default="runs/held_out.json", help="Numbers of each molecule.")
def main(methods: tuple[str, ...], data: Path, molecules: int, frequencies: int, fmax: float,
         steps: int, output: Path) -> None:  # fmt: skip
    """Judge each method; seconds are those of all cores that it uses."""
    require_frequencies(data)
    entries, minima = drawn(open_labelled(data), molecules)
    record = {}
    for name, method in open_methods(methods, []).items():
        found = {"single points": at_minima(method, minima, entries)}
        for noise in NOISES:
            found[str(noise)] = recovered(method, minima, noise, fmax, steps, name)
        ends = found[str(NOISES[-1])]["ends"][:frequencies]
        found["frequencies"] = of_vibrations(method, ends, entries, name)
        record[name] = found
        show(name, found)
        write_json(output, {n: {k: listed(v) for k, v in f.items()} for n, f in record.items()})


def drawn(dataset: PhysMolLmdbDataset, count: int) -> tuple[list, list[Atoms]]:
    """Random entries of a data set, and their minima."""
    order = np.random.default_rng(0).permutation(len(dataset))[:count]
    entries = [dataset[int(k)] for k in order]
    return entries, [Atoms(e.atomic_numbers.int().numpy(), e.pos.numpy()) for e in entries]


def at_minima(method: Method, minima: list[Atoms], entries: list) -> dict:
    """Errors of energies (eV), of which those of other methods lack an energy of each element, and
    the mean absolute force component (eV/Angstrom)."""
    started = time.perf_counter()
    answers = [a for part in chunks(minima, 64, "Energies") for a in method.answer(part)]
    seconds = time.perf_counter() - started
    known = [k for k, answer in enumerate(answers) if not isinstance(answer, Refusal)]
    errors = np.array([answers[k]["energy"] - float(entries[k].energy) for k in known])
    if isinstance(method, OtherMethod):
        elements = sorted({z for atoms in minima for z in atoms.numbers})
        counts = np.array([[(minima[k].numbers == z).sum() for z in elements] for k in known])
        errors = errors - counts @ np.linalg.lstsq(counts, errors, rcond=None)[0]
    return {
        "refused": len(answers) - len(known),
        "seconds": seconds,
        "errors": errors,
        "forces": [np.abs(answers[k]["forces"]).mean() for k in known],
        "spreads": [answers[k]["energy_std"] for k in known if "energy_std" in answers[k]],
    }


def recovered(
    method: Method, minima: list[Atoms], noise: float, fmax: float, steps: int, name: str
) -> dict:
    """How far relaxations end from the minima, and the spread of the models there."""
    random, starts = np.random.default_rng(0), []
    for atoms in minima:
        moved = random.normal(scale=noise, size=atoms.positions.shape)
        starts.append(Atoms(atoms.numbers, atoms.positions + moved))
    started = time.perf_counter()
    ends = relax(method, starts, fmax, steps, f"{name}, pushed by {noise} Å")
    seconds = time.perf_counter() - started
    pairs = [(a, end) for a, end in zip(minima, ends) if isinstance(end, End)]
    displacements = [mean_displacement(end.atoms.positions, a.positions) for a, end in pairs]
    others = [
        bonds(a.numbers, a.positions) != bonds(a.numbers, e.atoms.positions) for a, e in pairs
    ]
    return {
        **displacement_summary(displacements),
        "refused": len(ends) - len(pairs),
        "seconds": seconds,
        "steps": sum(end.steps for _, end in pairs),
        "converged": float(np.mean([end.converged for _, end in pairs])),
        "broken": float(np.mean(others)),
        "displacements": displacements,
        "energy_spreads": [e.results["energy_std"] for _, e in pairs if "energy_std" in e.results],
        "force_spreads": [largest(e.results["forces_std"]) for _, e in pairs
                          if "forces_std" in e.results],
        "ends": ends,
    }  # fmt: skip


def of_vibrations(method: Method, ends: Sequence[End | Refusal], entries: list, name: str) -> dict:
    """Frequencies (1/cm) at the method's minima beside DFT's, [modes, 2]."""
    chosen = [(e.atoms, entry) for e, entry in zip(ends, entries) if isinstance(e, End)]
    tight = relax(method, [atoms for atoms, _ in chosen], TIGHT, LONG, f"{name}, to {TIGHT} eV/Å")
    pairs, left_out = [], len(ends) - len(chosen)
    for end, (_, entry) in zip(tight, chosen):
        found = end if isinstance(end, Refusal) else vibrations(method, end.atoms)
        if isinstance(found, Refusal) or len(found.frequencies) != len(entry.frequencies):
            left_out += 1
            continue
        pairs.append(np.column_stack([np.sort(entry.frequencies.numpy()), found.frequencies]))
    return {"left out": left_out, "pairs": np.concatenate(pairs)}


def show(name: str, found: dict) -> None:
    points, (dft, own) = found["single points"], found["frequencies"]["pairs"].T
    print(f"\n{name}: energies {1000 * np.abs(points['errors']).mean():.1f} meV, "
          f"forces {np.mean(points['forces']):.4f} eV/Å ({points['seconds']:.1f} s, "
          f"{points['refused']} refused)")  # fmt: skip
    soft = dft < 1000
    print(f"frequencies {np.abs(own - dft).mean():.1f} /cm, ratio below 1000 /cm "
          f"{np.median(own[soft] / dft[soft]):.3f}, imaginary {(own < 0).sum()} of {len(own)} "
          f"({found['frequencies']['left out']} molecules left out)")  # fmt: skip
    keys = ("delta_p_a", "median_delta_p_a", "far_fraction", "drifted_fraction", "broken",
            "converged", "steps", "seconds", "refused")  # fmt: skip
    rows = [[noise, *(found[str(noise)][key] for key in keys)] for noise in NOISES]
    formats = ("", ".4f", ".4f", ".1%", ".1%", ".1%", ".1%", "", ".0f", "")
    print(tabulate(rows, ["pushed (Å)", *keys], floatfmt=formats))
    if points["spreads"]:
        rank = spearmanr(points["spreads"], np.abs(points["errors"])).statistic
        print(f"rank correlation of spreads and errors of energies: {rank:.2f}")
        for noise in NOISES:
            of_relaxations(noise, found[str(noise)])


def of_relaxations(noise: float, found: dict) -> None:
    """What spreads at the ends of relaxations say of their displacements."""
    displacements = np.array(found["displacements"])
    far = displacements > FAR
    for key in ("energy_spreads", "force_spreads"):
        spreads = np.array(found[key])
        alarm = np.quantile(spreads[~far], 1 - FALSE_ALARMS)
        print(f"pushed by {noise} Å, {key}: rank correlation with ΔP "
              f"{spearmanr(spreads, displacements).statistic:.2f}; above {alarm:.3g} are "
              f"{(spreads[far] > alarm).sum()} of {far.sum()} beyond {FAR} Å")  # fmt: skip


def listed(values: dict) -> dict:
    """Without the structures, for JSON."""
    return {k: v.tolist() if isinstance(v, np.ndarray) else v
            for k, v in values.items() if k != "ends"}  # fmt: skip


if __name__ == "__main__":
    main()
