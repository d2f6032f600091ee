"""The pair energies (section 3.4, Eq. 5) that a trained model has for real molecules."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TypeGuard

import click
import numpy as np
import pandas as pd
import torch
from ase.data import chemical_symbols
from tabulate import tabulate
from torch_geometric.data import Batch, Data

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError
from ocp_physmol.figures.bond_parameters import bond_parameters_figure
from ocp_physmol.files import write_json
from ocp_physmol.geometry import bonded
from ocp_physmol.model.bonds import BondRules
from ocp_physmol.model.energy import PairReadout, PhysicsReadout, pair_energy
from ocp_physmol.model.physmol import BondParameters, PhysMol
from ocp_physmol.model.radial import cosine_envelope
from ocp_physmol.option_types import COUNT, PATH
from ocp_physmol.relaxation.predictor import Predictor, batches

QUANTITIES = {  # of a pair
    "distance_a": "distance (Å)",
    "equilibrium_a": "beta_4 (Å)",
    "exponent": "beta_3",
    "depth_ev": "beta_2 (eV)",
    "coulomb_ev_a": "beta_1 beta_0 (eV Å)",
}
PAIR_TERMS = ["coulomb_ev", "lennard_jones_ev"]
TERMS = (*PAIR_TERMS, "atoms_ev")  # that add up to an energy
BETA = [f"beta_{k}" for k in range(5)]
SYMBOLS = ["-", ":", "=", "#"]  # of single, aromatic, double and triple bonds
ORDERS = [1.25, 1.75, 2.5]  # between these
CURVE = torch.from_numpy(np.linspace(0.6, 4.0, 86))  # Angstrom


def bond_parameters(
    predictor: Predictor, structures: Sequence[Data], batch_size: int = 64, samples: int = 200
) -> dict:
    """The parameters of Eq. 5 that a model predicts for the pairs of atoms of some structures.

    Structures should be at their minima, so that distances are bond lengths. A model without pair
    energies is a UserError.

    Returns:
        `pairs`, by elements and order ("C-H", "C=O", "C:C" where aromatic, "C#N"; orders are those
        of `BondRules`, whatever the model) and "bonded" or "not bonded" (see `geometry.bonded`):
        `count`; median, 10th and 90th percentile of QUANTITIES; `correlation` of beta_4 and
        distance; and `samples`, lists of QUANTITIES of at most so many pairs, drawn at random.
        `curves`, by elements and order, for the bonded pair of median length: its `distance_a` and
        `beta`, and phi E_ij (eV) at the distances `at_a`, split into PAIR_TERMS. `molecules`, lists
        by molecule of TERMS (eV), which add up to the energy without the element references and
        the repulsion of nuclei; and `molecule_terms`, their mean and spread.
    """
    model, scale = predictor.model, predictor.energy_scale
    if not has_pair_energy(model):
        raise UserError(
            f"checkpoint {predictor.path} holds a {type(model).__name__} without pair energies; "
            "use one trained with model.name physmol and model.readout physics or bonds"
        )
    tables: list[pd.DataFrame] = []
    energies: list[float] = []
    for batch in batches(structures, batch_size, "Bond parameters"):
        found = model.bond_parameters(batch.to(predictor.device))
        found = BondParameters(*(values.cpu() for values in found))
        tables.append(_pair_table(found, batch.cpu(), len(energies), scale))
        energies += (scale * found.energy.double()).tolist()
    table = pd.concat(tables)
    # bonds end at lengths of their own; their wells are drawn without that
    reach = model.cutoff if isinstance(model.energy.readout, PhysicsReadout) else math.inf
    kinds: dict[str, dict] = {}
    for (elements, kind), group in table.groupby(["elements", "kind"]):
        kinds.setdefault(elements, {})[kind] = _kind(group[[*QUANTITIES]], samples)
    bonds = table[table["kind"] == "bonded"].groupby("elements")
    terms = table.groupby("molecule")[PAIR_TERMS].sum()
    terms = terms.reindex(range(len(energies)), fill_value=0.0)  # lone atoms have no pairs
    terms["atoms_ev"] = energies - terms.sum(axis=1)
    spread = pd.DataFrame({"mean": terms.mean(), "std": terms.std(ddof=0)})
    return {
        "pairs": kinds,
        "curves": {elements: _curve(group, reach, scale) for elements, group in bonds},
        "molecules": terms.round(4).to_dict("list"),
        "molecule_terms": spread.round(4).to_dict("index"),
    }


def has_pair_energy(model: torch.nn.Module) -> TypeGuard[PhysMol]:
    """Whether a model is a PhysMol with a readout that has pair energies."""
    return isinstance(model, PhysMol) and isinstance(model.energy.readout, PairReadout)


def _pair_table(found: BondParameters, batch: Batch, before: int, scale: float) -> pd.DataFrame:
    """One row for each pair of a batch, that has so many molecules `before` it."""
    beta, distance, factor = found.beta.double(), found.distance.double(), found.factor.double()
    pair = batch.atomic_numbers.long()[found.pair_index].numpy()  # [2, P]
    symbols = np.array(SYMBOLS)[np.digitize(_orders(found, batch), ORDERS)]
    rank = np.select([pair == 6, pair == 1], [0, 1000], pair)  # C first and H last, as in C-H, N-H
    first, second = np.take_along_axis(pair, rank.argsort(axis=0), axis=0)
    return pd.DataFrame({
        "molecule": before + batch.batch[found.pair_index[0]],
        "elements": [
            f"{chemical_symbols[a]}{symbol}{chemical_symbols[b]}"
            for a, symbol, b in zip(first, symbols, second)
        ],
        "kind": np.where(bonded(first, second, distance.numpy()), "bonded", "not bonded"),
        "distance_a": distance,
        "equilibrium_a": beta[:, 4],
        "exponent": beta[:, 3],
        "depth_ev": scale * beta[:, 2],
        "coulomb_ev_a": scale * beta[:, 1] * beta[:, 0],
        **_pair_terms(distance, beta, factor, scale),
        **dict(zip(BETA, beta.unbind(1))),
    })  # fmt: skip


def _orders(found: BondParameters, batch: Batch) -> np.ndarray:
    """The order of the bond that chemistry sees between each of the pairs, 1 where none is: [P]."""
    bonds = BondRules()(batch.atomic_numbers.long(), found.pair_index, found.distance)
    order = np.ones(len(found.distance))
    order[bonds.pair] = bonds.order
    return order


def _pair_terms(
    distance: torch.Tensor, beta: torch.Tensor, factor: torch.Tensor, scale: float
) -> dict[str, torch.Tensor]:
    """Energies (eV) of pairs [P] at `distance` [P] with `beta` [P, 5], split into PAIR_TERMS."""
    no_depth, no_charge = beta.new_tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]])
    parts = [scale * (factor * pair_energy(distance, beta * k)) for k in (no_depth, no_charge)]
    return dict(zip(PAIR_TERMS, parts))


def _kind(values: pd.DataFrame, samples: int) -> dict:
    """Summaries and samples of the pairs of one kind."""
    distance, equilibrium = values["distance_a"], values["equilibrium_a"]
    varies = len(values) > 2 and min(distance.std(), equilibrium.std()) > 1e-6
    spread = values.quantile([0.1, 0.5, 0.9]).set_axis(["p10", "median", "p90"])
    chosen = values.sample(min(samples, len(values)), random_state=0)
    return {
        "count": len(values),
        "correlation": round(distance.corr(equilibrium), 4) if varies else None,
        **spread.round(4).to_dict(),
        "samples": chosen.round(4).to_dict("list"),
    }


def _curve(group: pd.DataFrame, cutoff: float, scale: float) -> dict:
    """The pair energy of the group's pair of median length, at all distances of CURVE."""
    pair = group.sort_values("distance_a").iloc[len(group) // 2]
    beta = pair[BETA].to_numpy(dtype=float)
    factor = cosine_envelope(CURVE, cutoff)
    terms = _pair_terms(CURVE, torch.tensor(beta).expand(len(CURVE), 5), factor, scale)
    return {
        "distance_a": round(pair["distance_a"], 4),
        "at_a": CURVE.numpy().round(2).tolist(),
        "beta": beta.round(5).tolist(),
        **pd.DataFrame(terms).round(5).to_dict("list"),
    }


@click.command("bond-parameters", context_settings={"show_default": True})
@click.option("--checkpoint", type=PATH, required=True)
@click.option("--data", type=PATH, default="data/quickstart/test", help="LMDBs.")
@click.option("--molecules", type=COUNT, default=588, help="Take the first so many.")
@click.option("--output", type=PATH, default="runs/bond_parameters", help="Folder.")
def command(checkpoint: Path, data: Path, molecules: int, output: Path) -> None:
    """Show the pair energies that a PhysMol has learned (Eq. 5).

    Prints a table; writes bond_parameters.json and a figure.
    """
    structures = list(islice(PhysMolLmdbDataset({"src": str(data)}), molecules))
    result = bond_parameters(Predictor.open(checkpoint), structures)
    rows = [
        [f"{elements} {kind}", values["count"], *(values[key]["median"] for key in QUANTITIES)]
        for elements, kinds in result["pairs"].items()
        for kind, values in kinds.items()
    ]
    medians = tabulate(rows, ["medians", "pairs", *QUANTITIES.values()], floatfmt=".3f")
    terms = ", ".join(
        f"{term[:-3]} {value['mean']:.2f} ± {value['std']:.2f}"
        for term, value in result["molecule_terms"].items()
    )
    click.echo(
        f"\n{medians}\n\n"
        f"Energy of a molecule without element references, mean ± spread (eV): {terms}"
    )
    bond_parameters_figure(output / "bond_parameters.png", result)
    write_json(output / "bond_parameters.json", result)
    click.echo(f"\nWritten: {output / 'bond_parameters.json'} and the figure beside it")
