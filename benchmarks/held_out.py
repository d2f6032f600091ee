"""Methods of `ocp-physmol relax` on molecules held out of a training: python benchmarks/held_out.py

Energies and forces at DFT's minima, relaxations from there and from beside, frequencies, and what
the spread of several models says of their errors.
"""

import time
from pathlib import Path

import click
import numpy as np
from ase import Atoms
from scipy.stats import spearmanr
from tabulate import tabulate

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError, exit_on_user_error
from ocp_physmol.evaluation.deviations import (
    FAR,
    displacement_summary,
    mean_displacement,
    same_bonds,
)
from ocp_physmol.evaluation.vibrations import require_frequencies
from ocp_physmol.files import write_json
from ocp_physmol.model.elements import NUM_TYPES, composition
from ocp_physmol.molecules.methods import METHODS, Method, OtherMethod, open_methods
from ocp_physmol.molecules.relaxation import End, relax
from ocp_physmol.molecules.vibrations import vibrations
from ocp_physmol.option_types import COUNT, PATH, POSITIVE
from ocp_physmol.potential.calculator import largest
from ocp_physmol.progress import chunks
from ocp_physmol.relaxation.predictor import open_labelled

NOISES = (0.0, 0.05, 0.1)  # Angstrom, of every coordinate
TIGHT, LONG = 0.003, 1000  # eV/Angstrom and steps, before frequencies
# Angstrom, of every coordinate: off a saddle point on which a molecule may have ended
BESIDE = 0.01
FITTED = 500  # molecules that give other methods an energy of each element
FALSE_ALARMS = 0.05


@click.command(params=[METHODS], context_settings={"show_default": True})
@click.option("--data", type=PATH, default="data/qm9/test", help="An LMDB of QM9.")
@click.option("--molecules", type=COUNT, default=1000, help="Taken at random from it.")
@click.option("--frequencies", type=COUNT, default=100, help="Of the first so many of these.")
@click.option("--fmax", type=POSITIVE, default=0.01, help="eV/Å.")
@click.option("--steps", type=COUNT, default=500)
@click.option("--output", type=PATH, default="runs/held_out.json", help="Numbers of each molecule.")
def main(methods: tuple[str, ...], data: Path, molecules: int, frequencies: int, fmax: float,
         steps: int, output: Path) -> None:  # fmt: skip
    """Judge each method; seconds are wall time on all cores that this process may use."""
    require_frequencies(data)
    dataset = open_labelled(data)
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    entries = [dataset[k] for k in order[:molecules]]
    others = [dataset[k] for k in order[molecules : molecules + FITTED]]
    if not others:
        raise UserError(
            f"{data} holds {len(dataset)} molecules, and some must be left besides those that are "
            "judged; give fewer --molecules"
        )
    record = {}
    for name, method in open_methods(methods, []).items():
        answered(method, others[:64])  # starts processes, loads what is compiled
        found = {"sids": [identifier(e.sid) for e in entries], **at_minima(method, entries, others)}
        for noise in NOISES:
            found[str(noise)] = recovered(method, entries, noise, fmax, steps, name)
        first = found[str(NOISES[0])]["ends"][:frequencies]
        found["vibrations"] = of_vibrations(method, first, entries, name)
        for noise in NOISES:
            del found[str(noise)]["ends"]
        record[name] = found
        write_json(output, record)
        show(name, found)


def minimum(entry) -> Atoms:
    return Atoms(entry.atomic_numbers.int().numpy(), entry.pos.double().numpy())


def at_minima(method: Method, entries: list, others: list) -> dict:
    """Errors of energies (eV), and forces (eV/Angstrom), which are zero; None where refused.

    Other methods lack an energy of each element, which is fitted to molecules that are not judged.
    """
    started = time.perf_counter()
    answers = [a for part in chunks(entries, 64, "Energies") for a in answered(method, part)]
    seconds = time.perf_counter() - started
    references = np.zeros(NUM_TYPES)
    if isinstance(method, OtherMethod):
        pairs = [(e, a) for e, a in zip(others, answered(method, others)) if a is not None]
        lacking = [float(e.energy) - a["energy"] for e, a in pairs]
        counts = [composition(e) for e, _ in pairs]
        references = np.linalg.lstsq(np.array(counts, float), np.array(lacking), rcond=None)[0]
    energies = [a and a["energy"] + composition(e) @ references
                for e, a in zip(entries, answers)]  # fmt: skip
    return {
        "seconds": seconds,
        "errors": [None if energy is None else float(energy - float(e.energy))
                   for e, energy in zip(entries, energies)],
        "forces": [a and np.abs(a["forces"]).mean(1).tolist() for a in answers],
        "spreads": [a and a.get("energy_std") for a in answers],
    }  # fmt: skip


def answered(method: Method, entries: list) -> list[dict | None]:
    answers = method.answer(list(map(minimum, entries)))
    return [None if isinstance(answer, Refusal) else answer for answer in answers]


def recovered(
    method: Method, entries: list, noise: float, fmax: float, steps: int, name: str
) -> dict:
    """How far relaxations end from the minima, and the spread of the models there.

    What is refused counts as infinitely far, not converged and of other bonds; means leave it out.
    """
    random = np.random.default_rng(0)
    starts = [moved(minimum(entry), noise, random) for entry in entries]
    started = time.perf_counter()
    ends = relax(method, starts, fmax, steps, f"{name}, pushed by {noise} Å")
    seconds = time.perf_counter() - started
    fates = [fate(entry, end) for entry, end in zip(entries, ends)]
    lists = {key: [one[key] for one in fates] for key in fates[0]}
    summary = displacement_summary(lists["displacements"])
    return {**summary, "seconds": seconds, **lists, "ends": ends}


def moved(atoms: Atoms, noise: float, random: np.random.Generator) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions + random.normal(scale=noise, size=(len(atoms), 3)))


def fate(entry, end: End | Refusal) -> dict:
    """Of one relaxation, beside the minimum."""
    if isinstance(end, Refusal):
        return {"displacements": np.inf, "converged": False, "broken": True, "steps": None,
                "energy_spreads": None, "force_spreads": None}  # fmt: skip
    positions = end.atoms.positions
    return {
        "displacements": mean_displacement(positions, entry.pos.double().numpy()),
        "converged": end.converged,
        "broken": not same_bonds(entry, positions),
        "steps": end.steps,
        "energy_spreads": end.results.get("energy_std"),
        "force_spreads": largest(end.results.get("forces_std")),
    }


def of_vibrations(method: Method, ends: list, entries: list, name: str) -> dict:
    """Frequencies (1/cm) at the method's minima beside DFT's, [modes, 2].

    Left out are molecules that are refused, do not converge, or have another number of modes.
    """
    random = np.random.default_rng(0)
    chosen = [(e.atoms, entry) for e, entry in zip(ends, entries) if isinstance(e, End)]
    starts = [moved(atoms, BESIDE, random) for atoms, _ in chosen]
    pairs = []
    tight = relax(method, starts, TIGHT, LONG, f"{name}, to {TIGHT} eV/Å")
    for end, (_, entry) in zip(tight, chosen):
        if isinstance(end, End) and end.converged:
            found = vibrations(method, end.atoms)
            dft = np.sort(entry.frequencies.double().numpy())
            if not isinstance(found, Refusal) and len(found.frequencies) == len(dft):
                pairs.append(np.column_stack([dft, found.frequencies]).round(1))
    left_out = len(ends) - len(pairs)
    return {"left_out": left_out, "pairs": np.concatenate([np.empty((0, 2)), *pairs])}


def show(name: str, found: dict) -> None:
    known = [k for k, error in enumerate(found["errors"]) if error is not None]
    errors = np.abs([found["errors"][k] for k in known])
    forces = np.concatenate([found["forces"][k] for k in known])
    print(f"\n{name}: energies {1000 * errors.mean():.1f} meV, forces {forces.mean():.4f} eV/Å "
          f"({found['seconds']:.1f} s, {len(found['errors']) - len(known)} refused)")  # fmt: skip
    (dft, own), soft = found["vibrations"]["pairs"].T, found["vibrations"]["pairs"][:, 0] < 1000
    print(f"frequencies {np.abs(own - dft).mean():.1f} /cm, below 1000 /cm "
          f"{np.abs(own - dft)[soft].mean():.1f} /cm and a ratio of "
          f"{np.median(own[soft] / dft[soft]):.3f}, imaginary {(own < 0).sum()} of {len(own)} "
          f"({found['vibrations']['left_out']} molecules left out)")  # fmt: skip
    keys = ("delta_p_a", "median_delta_p_a", "far_fraction", "drifted_fraction")
    rows = []
    for noise in NOISES:
        one = found[str(noise)]
        steps = np.mean([steps for steps in one["steps"] if steps is not None])
        shares = np.mean(one["converged"]), np.mean(one["broken"])
        rows.append([noise, *(one[key] for key in keys), *shares, steps, one["seconds"]])
    headers = ["pushed (Å)", "ΔP, mean (Å)", "median", f"> {FAR} Å", "> 0.5 Å", "converged",
               "other bonds", "steps", "s"]  # fmt: skip
    formats = ("", ".4f", ".4f", ".1%", ".1%", ".1%", ".1%", ".0f", ".0f")
    print(tabulate(rows, headers, floatfmt=formats))
    spreads = [found["spreads"][k] for k in known]
    if spreads and spreads[0] is not None:
        rank = spearmanr(spreads, errors).statistic
        print(f"rank correlation of spreads and errors of energies: {rank:.2f}")
        for noise in NOISES:
            show_spreads(noise, found[str(noise)])


def show_spreads(noise: float, found: dict) -> None:
    """What spreads at the ends of relaxations say of their displacements."""
    known = np.isfinite(found["displacements"])
    displacements = np.array(found["displacements"])[known]
    far = displacements > FAR
    for key in ("energy_spreads", "force_spreads"):
        spreads = np.array(found[key], float)[known]
        alarm = np.quantile(spreads[~far], 1 - FALSE_ALARMS)
        rank = spearmanr(spreads, displacements).statistic
        print(f"pushed by {noise} Å, {key}: rank correlation with ΔP {rank:.2f}; above {alarm:.3g} "
              f"are {(spreads[far] > alarm).sum()} of {far.sum()} beyond {FAR} Å")  # fmt: skip


if __name__ == "__main__":
    with exit_on_user_error():
        main()
