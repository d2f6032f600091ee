"""The pair energies (section 3.4, Eq. 5) that a trained model has for real molecules."""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from ase.data import chemical_symbols
from tabulate import tabulate
from torch_geometric.data import Data

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError
from ocp_physmol.figures.bond_parameters import bond_parameters_figure
from ocp_physmol.files import write_json
from ocp_physmol.geometry import bonded
from ocp_physmol.model.energy import PhysicsReadout, pair_energy
from ocp_physmol.model.physmol import BondParameters, PhysMol
from ocp_physmol.model.radial import cosine_envelope
from ocp_physmol.relaxation.predictor import Predictor, batches, progress

PARAMETERS = {  # of a pair, beside its distance
    "equilibrium_a": "beta_4 (Å)",
    "exponent": "beta_3",
    "depth_ev": "beta_2 (eV)",
    "coulomb_ev_a": "beta_1 beta_0 (eV Å)",
}
TERMS = ("coulomb_ev", "lennard_jones_ev", "atoms_ev")  # that add up to an energy
CURVE = np.linspace(0.6, 4.0, 86)  # Angstrom


def bond_parameters(
    predictor: Predictor,
    structures: Sequence[Data],
    batch_size: int = 64,
    samples: int = 200,
    seed: int = 0,
) -> dict:
    """The parameters of Eq. 5 that a model predicts for the pairs of atoms of some structures.

    Args:
        structures: at their minima, so that distances are bond lengths.
        samples: pairs to keep of each kind (elements, bonded or not), drawn with `seed`.

    Returns:
        `pairs`, by elements ("C-H") and "bonded" or "not bonded" (as `geometry.bonded` has it):
        their `count`; median, 10th and 90th percentile of `distance_a` and each of PARAMETERS;
        `correlation` of beta_4 and distance; and `samples`, lists of the same quantities.
        `curves`, by elements, for the bonded pair of median length: its `distance_a` and `beta`,
        and phi E_ij (eV) with this beta at the distances `at_a`, split as in TERMS.
        `molecules`, lists by molecule of TERMS (eV), which add up to the energy without the element
        references; and `molecule_terms`, their mean and spread.

    Raises:
        UserError: for another model or readout.
    """
    model, scale = model_with_pair_energy(predictor), predictor.energy_scale
    tables, molecules = [], []
    with progress("Bond parameters", len(structures)) as bar:
        for batch in batches(structures, batch_size):
            found = model.bond_parameters(batch.to(predictor.device))
            found = BondParameters(*(values.cpu() for values in found))
            numbers = batch.atomic_numbers.cpu().long()
            pairs = _pair_table(found, numbers, model.cutoff, scale)
            tables.append(pairs)
            molecules.append(_terms(pairs, found, batch.batch.cpu(), scale))
            bar.update(len(batch.natoms))
    table = pd.concat(tables, ignore_index=True)
    molecules = pd.concat(molecules, ignore_index=True)
    kinds: dict[str, dict] = {}
    curves = {}
    for (elements, has_bond), group in table.groupby(["elements", "bonded"]):
        kind = "bonded" if has_bond else "not bonded"
        kinds.setdefault(elements, {})[kind] = _kind(group, samples, seed)
        if has_bond:
            curves[elements] = _curve(group, model.cutoff, scale)
    return {
        "pairs": kinds,
        "curves": curves,
        "molecules": _lists(molecules, 4),
        "molecule_terms": {
            term: {"mean": round(values.mean(), 4), "std": round(values.std(ddof=0), 4)}
            for term, values in molecules.items()
        },
    }


def has_pair_energy(model: torch.nn.Module) -> bool:
    """Whether a model is a PhysMol with the physics readout."""
    return isinstance(model, PhysMol) and isinstance(model.energy.readout, PhysicsReadout)


def model_with_pair_energy(predictor: Predictor) -> PhysMol:
    """The predictor's model; UserError if it has no pair energy."""
    model = predictor.model
    kind = type(model).__name__
    if isinstance(model, PhysMol):
        if has_pair_energy(model):
            return model
        kind += f" with {type(model.energy.readout).__name__}"
    raise UserError(
        f"checkpoint {predictor.path} holds a {kind}, which has no pair energy; "
        "use one trained with model.name physmol and model.readout physics"
    )


def _pair_table(
    found: BondParameters, numbers: torch.Tensor, cutoff: float, scale: float
) -> pd.DataFrame:
    """One row for each pair of a batch."""
    beta, distance = found.beta.double(), found.distance.double()
    pair = numbers[found.pair_index].numpy()  # [2, P]
    rank = np.select([pair == 6, pair == 1], [0, 1000], pair)  # C first and H last, as in C-H, N-H
    first, second = np.take_along_axis(pair, rank.argsort(axis=0), axis=0)
    coulomb, lennard_jones = scale * torch.stack(_split_energy(distance, beta, cutoff))
    return pd.DataFrame({
        "elements": [f"{chemical_symbols[a]}-{chemical_symbols[b]}" for a, b in zip(first, second)],
        "bonded": bonded(first, second, distance.numpy()),
        "atom": found.pair_index[0],
        "distance_a": distance,
        "equilibrium_a": beta[:, 4],
        "exponent": beta[:, 3],
        "depth_ev": scale * beta[:, 2],
        "coulomb_ev_a": scale * beta[:, 1] * beta[:, 0],
        "coulomb_ev": coulomb,
        "lennard_jones_ev": lennard_jones,
        **{f"beta_{k}": beta[:, k] for k in range(5)},
    })  # fmt: skip


def _split_energy(distance: torch.Tensor, beta: torch.Tensor, cutoff: float):
    """phi E_ij of pairs [P] at `distance` [P] with `beta` [P, 5]: Coulomb's part, and the rest."""
    envelope = cosine_envelope(distance, cutoff)
    no_charge, no_depth = beta.clone(), beta.clone()
    no_charge[:, 0], no_depth[:, 2] = 0, 0
    return envelope * pair_energy(distance, no_depth), envelope * pair_energy(distance, no_charge)


def _terms(
    pairs: pd.DataFrame, found: BondParameters, batch: torch.Tensor, scale: float
) -> pd.DataFrame:
    """TERMS of each molecule of a batch; what is not of pairs is of atoms."""
    energy = scale * found.energy.double().numpy()
    molecule = batch.numpy()[pairs["atom"]]
    sums = pairs[["coulomb_ev", "lennard_jones_ev"]].groupby(molecule).sum()
    sums = sums.reindex(range(len(energy)), fill_value=0.0)
    return sums.assign(atoms_ev=energy - sums.sum(axis=1))


def _kind(group: pd.DataFrame, samples: int, seed: int) -> dict:
    """Summaries and samples of the pairs of one kind."""
    values = group[["distance_a", *PARAMETERS]]
    spread = values.quantile([0.1, 0.5, 0.9]).round(4)
    varies = len(group) > 2 and (values[["distance_a", "equilibrium_a"]].std() > 1e-6).all()
    correlation = values["distance_a"].corr(values["equilibrium_a"]) if varies else None
    return {
        "count": len(group),
        "correlation": correlation if correlation is None else round(correlation, 4),
        **{
            key: {"p10": column[0.1], "median": column[0.5], "p90": column[0.9]}
            for key, column in spread.items()
        },
        "samples": _lists(values.sample(min(samples, len(group)), random_state=seed), 4),
    }


def _curve(group: pd.DataFrame, cutoff: float, scale: float) -> dict:
    """The pair energy of the group's pair of median length, at all distances of CURVE."""
    pair = group.sort_values("distance_a").iloc[len(group) // 2]
    beta = pair[[f"beta_{k}" for k in range(5)]].to_numpy(dtype=float)
    distance = torch.tensor(CURVE)
    coulomb, lennard_jones = _split_energy(
        distance, torch.tensor(beta).expand(len(distance), 5), cutoff
    )
    energies = pd.DataFrame({TERMS[0]: scale * coulomb, TERMS[1]: scale * lennard_jones})
    return {
        "distance_a": round(pair["distance_a"], 4),
        "at_a": CURVE.round(2).tolist(),
        "beta": beta.round(5).tolist(),
        **_lists(energies, 5),
    }


def _lists(table: pd.DataFrame, digits: int) -> dict[str, list[float]]:
    return table.round(digits).to_dict("list")


@click.command("bond-parameters", context_settings={"show_default": True})
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True)
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("data/quickstart/test"), help="LMDBs."
)
@click.option("--molecules", type=click.IntRange(1), default=588, help="Take the first so many.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("runs/bond_parameters"),
    help="Folder.",
)  # fmt: skip
def command(checkpoint: Path, data: Path, molecules: int, output: Path) -> None:
    """Show the pair energies that a PhysMol has learned (Eq. 5).

    Prints a table; writes bond_parameters.json and a figure.
    """
    entries = PhysMolLmdbDataset({"src": str(data)})
    structures = [entries[i] for i in range(min(molecules, len(entries)))]
    result = bond_parameters(Predictor.open(checkpoint), structures)
    terms = ", ".join(
        f"{term[:-3]} {value['mean']:.2f} ± {value['std']:.2f}"
        for term, value in result["molecule_terms"].items()
    )
    click.echo(f"\n{_table(result['pairs'])}\n\nEnergy of a molecule without element references, "
               f"mean ± spread (eV): {terms}")  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    bond_parameters_figure(output / "bond_parameters.png", result)
    write_json(output / "bond_parameters.json", result)
    click.echo(f"\nWritten: {output / 'bond_parameters.json'} and the figure beside it")


def _table(pairs: dict[str, dict]) -> str:
    """Medians of each kind of pair."""
    quantities = {"distance_a": "distance (Å)", **PARAMETERS}
    rows = [
        [f"{elements} {kind}", values["count"], *(values[key]["median"] for key in quantities)]
        for elements, kinds in pairs.items()
        for kind, values in kinds.items()
    ]
    return tabulate(rows, ["medians", "pairs", *quantities.values()], floatfmt=".3f")
