"""PhysMol (section 3, Fig. 1a) with fairchem's face: a batch of structures in, outputs out."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it

# isort: split
from collections.abc import Sequence
from typing import NamedTuple

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import GraphModelMixin
from torch import nn
from torch_geometric.data import Batch

from ocp_physmol.model.architecture import PhysMolEnergy, Structures
from ocp_physmol.model.config import PhysMolConfig
from ocp_physmol.model.copies import Copy
from ocp_physmol.model.elements import MASK_TYPE, MAX_ATOMIC_NUMBER
from ocp_physmol.model.energy import PairReadout
from ocp_physmol.model.fast.knots import Tables
from ocp_physmol.model.forces import energy_and_forces
from ocp_physmol.model.graph import find_neighbors
from ocp_physmol.model.masking import MaskedAtomClassifier, mask_types
from ocp_physmol.model.prior import Prior


@registry.register_model("physmol")
class PhysMol(nn.Module, GraphModelMixin):
    """Transformer over atoms with a parametric pair energy. `PhysMolConfig` has its options."""

    Config = PhysMolConfig

    def __init__(self, **options) -> None:
        super().__init__()
        self.config = PhysMolConfig(**options)
        self.cutoff, self.otf_graph = self.config.cutoff, True  # fairchem reads these
        self.outputs = ("energy", "forces") if self.config.regress_forces else ("energy",)
        self.energy = PhysMolEnergy(self.config)
        self.prior = Prior(self.config.prior) if self.config.prior else None
        width = self.config.hidden_channels
        self.classifier = MaskedAtomClassifier(width) if self.config.use_masking else None

    def forward(
        self, data: Batch, outputs: Sequence[str] = (), copies: Sequence[Copy] = ()
    ) -> dict:
        """Energies and forces of a batch, and of copies of it.

        Args:
            data: a fairchem batch with `pos` [N, 3] (Angstrom), `atomic_numbers` [N], `natoms` [B]
                and, for periodic structures, `cell` [B, 3, 3] and `pbc` [B, 3].
            outputs: of the batch itself, "energy" and "forces"; none: those of `regress_forces`.
            copies: evaluated in this one call, as DistributedDataParallel wants it.

        Returns:
            `energy` [B] (eV), `forces` [N, 3] (eV/Angstrom), and by the name of each copy a
            dictionary of its own `energy`, `forces` and `masked_logits` [N, 119].
        """
        own = self._structures(data)
        exact, tables = self._how_to_evaluate(own, copies)
        found = self._evaluate(own, outputs or self.outputs, exact, tables)
        out: dict = self._with_prior(found, data, own)
        for copy in copies:
            changed = copy.of(data)
            structures = own if copy.pos is None else self._structures(changed)
            if copy.masked is not None:
                types = mask_types(structures.atom_type, copy.masked)
                structures = structures._replace(atom_type=types)
            found = self._evaluate(structures, copy.outputs, exact, tables)
            out[copy.name] = self._with_prior(found, changed, structures)
        return out

    def _with_prior(self, out: dict, data: Batch, structures: Structures) -> dict:
        """Outputs of the network, and the prior added to them."""
        if self.prior is None or "energy" not in out or len(data.pos) == 0:
            return out
        energy, forces = self.prior(data, structures.neighbors, self.training)
        added = {"energy": out["energy"].double() + energy}
        if "forces" in out:
            added["forces"] = out["forces"] + forces
        return {**out, **added}

    def _structures(self, data: Batch) -> Structures:
        atom_type = data.atomic_numbers.long()
        unknown = atom_type[(atom_type < 1) | (atom_type > MAX_ATOMIC_NUMBER)]
        if len(unknown) > 0:
            raise ValueError(
                f"atomic number {int(unknown[0])} is no element: "
                f"atomic_numbers must be 1 to {MAX_ATOMIC_NUMBER}"
            )
        cell, pbc = getattr(data, "cell", None), getattr(data, "pbc", None)
        neighbors = find_neighbors(data.pos, data.natoms, self.cutoff, cell, pbc)
        return Structures(data.pos, atom_type, neighbors)

    def _how_to_evaluate(
        self, own: Structures, copies: Sequence[Copy]
    ) -> tuple[bool, Tables | None]:
        """Whether the formulas are needed, and if not, on a processor, the filters on knots: the
        same ones for the batch and all its copies."""
        positions = [own.pos, *(copy.pos for copy in copies if copy.pos is not None)]
        exact = any(map(self._must_be_exact, positions))
        if exact or own.pos.device.type != "cpu" or len(own.pos) == 0:
            return exact, None
        hidden = any(copy.masked is not None for copy in copies)
        mask = own.atom_type.new_full((int(hidden),), MASK_TYPE)
        return exact, self.energy.tabulated(torch.cat([own.atom_type, mask]).unique())

    def _evaluate(
        self, structures: Structures, outputs: Sequence[str], exact: bool, tables: Tables | None
    ) -> dict[str, torch.Tensor]:
        pos, out = structures.pos, {}
        if len(pos) == 0:  # no structure of this batch is copied
            return {"energy": pos.new_zeros(0), "forces": pos}
        if "forces" in outputs:
            how = tables, exact
            out["energy"], out["forces"] = energy_and_forces(self.energy, structures, *how)
        elif "energy" in outputs:
            out["energy"] = self.energy(structures, tables)
        if "masked_logits" in outputs:
            if self.classifier is None:
                raise ValueError("masked_logits need use_masking: true")
            out["masked_logits"] = self.classifier(self.energy.represent(structures, tables)[0])
        return out

    def _must_be_exact(self, pos: torch.Tensor) -> bool:
        """Whether the formulas themselves are needed, with all their derivatives.

        They are where the caller differentiates by the positions, and in reduced precision, where
        differences of energies are noise.
        """
        device, dtype = pos.device.type, self.energy.radial_basis.mu_change.dtype
        rough = device == "cuda" and torch.get_float32_matmul_precision() != "highest"
        rough = rough or dtype not in (torch.float32, torch.float64)
        return pos.requires_grad or rough or torch.is_autocast_enabled(device)

    @torch.no_grad()
    def bond_parameters(self, data: Batch) -> "BondParameters":
        """The parameters of Eq. 5 for the pairs of atoms of a batch that have a pair energy.

        Raises:
            ValueError: if the readout has no pair energy.
        """
        readout = self.energy.readout
        if not isinstance(readout, PairReadout):
            raise ValueError(
                f"readout '{self.config.readout}' has no pair energy; use 'physics' or 'bonds'"
            )
        structures = self._structures(data)
        x, cls, graph = self.energy.represent(structures)
        pairs = readout.pairs(x, structures.atom_type, graph)
        return BondParameters(*pairs, readout(x, cls, structures.atom_type, graph))


class BondParameters(NamedTuple):
    """The pair energies of P pairs of atoms in B structures."""

    pair_index: torch.Tensor  # [2, P]
    distance: torch.Tensor  # [P], Angstrom
    factor: torch.Tensor  # [P], of the pair energy
    beta: torch.Tensor  # [P, 5], of Eq. 5, see `pair_energy`
    energy: torch.Tensor  # [B], of the structures, without the repulsion of nuclei
