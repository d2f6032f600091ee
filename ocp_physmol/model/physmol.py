"""PhysMol (section 3, Fig. 1a) with fairchem's face: a batch of structures in, outputs out."""

from __future__ import annotations

from functools import partial

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import GraphModelMixin
from torch import nn

from ocp_physmol.model.attention import AttentionStack
from ocp_physmol.model.elements import MAX_ATOMIC_NUMBER
from ocp_physmol.model.embedding import AtomEmbedding
from ocp_physmol.model.energy import READOUTS, make_readout
from ocp_physmol.model.fast.knots import place_on_knots
from ocp_physmol.model.forces import energy_and_forces, forces_of
from ocp_physmol.model.graph import Graph, Neighbors, find_neighbors, measure
from ocp_physmol.model.masking import MaskedAtomClassifier, mask_types
from ocp_physmol.model.radial import RadialBasis

POSITIONS = ("pos", "pos_displaced", "pos_equilibrium")


@registry.register_model("physmol")
class PhysMol(nn.Module, GraphModelMixin):
    """Transformer over atoms with a parametric pair energy on top.

    Args:
        hidden_channels (int): width d of all embeddings. (default: 128)
        num_layers (int): number of Molecular Attention Blocks L. (default: 4)
        attention_channels (int): width m of queries, keys, values, D^K and D^V, which sets the cost
            of an edge. (default: hidden_channels)
        num_heads (int): attention heads, a divisor of attention_channels. (default: 8)
        num_rbf (int): radial basis functions n_b. (default: 32)
        cutoff (float): tau of Eq. 3, Angstrom. (default: 5.0)
        readout (str): "atom", "cls" or "physics" (Eq. 6). (default: "physics")
        use_cls (bool): add the [CLS] token. Energies then depend on the whole cell and are not
            extensive. (default: False)
        use_adjacency (bool): the A-mask on attention weights. (default: False)
        use_masking (bool): the classifier for Masked Atomic Modeling; the trainer switches it on
            with the loss. (default: False)
        regress_forces (bool): forces as the exact derivative -dE/dx. (default: True)
        bond_parameters (bool): also return beta of Eq. 5 for each pair; physics readout only.
            (default: False)
        otf_graph (bool): must be True: neighbours are always found here. (default: True)

    Raises:
        ValueError: for a value out of range; the message names the key.
    """

    copies = ("displaced", "masked", "equilibrium")

    def __init__(
        self,
        hidden_channels: int = 128,
        num_layers: int = 4,
        attention_channels: int | None = None,
        num_heads: int = 8,
        num_rbf: int = 32,
        cutoff: float = 5.0,
        readout: str = "physics",
        use_cls: bool = False,
        use_adjacency: bool = False,
        use_masking: bool = False,
        regress_forces: bool = True,
        bond_parameters: bool = False,
        otf_graph: bool = True,
    ) -> None:
        super().__init__()
        attention_channels = attention_channels or hidden_channels
        _check_config(**{k: v for k, v in locals().items() if k not in ("self", "__class__")})
        self.cutoff = float(cutoff)
        self.regress_forces = regress_forces
        self.bond_parameters = bond_parameters
        self.otf_graph = otf_graph

        self.radial_basis = RadialBasis(num_rbf, self.cutoff)
        self.embedding = AtomEmbedding(hidden_channels, num_rbf)
        self.attention = AttentionStack(
            num_layers,
            hidden_channels,
            use_cls,
            use_adjacency,
            attention_channels=attention_channels,
            num_heads=num_heads,
            num_rbf=num_rbf,
        )
        self.readout = make_readout(readout, hidden_channels)
        self.classifier = MaskedAtomClassifier(hidden_channels) if use_masking else None

    def forward(self, data) -> dict[str, torch.Tensor]:
        """Energies and forces of a batch, and of its training copies where it brings any.

        Args:
            data: a fairchem batch with `pos` [N, 3] (Angstrom), `atomic_numbers` [N], `natoms` [B]
                and, for periodic structures, `cell` [B, 3, 3] and `pbc` [B, 3]. Optional copies:
                `displaced` [B] (bool), the structures that have a displaced copy, with
                `pos_displaced` [M, 3], the positions of its atoms, and `displaced_forces` (bool),
                whether their forces are wanted too; `pos_equilibrium` [N, 3], where the structures
                relax to; `masked` [N] (bool), the atoms to hide in a masked copy.
                All are evaluated in this one call, as DistributedDataParallel wants it.

        Returns:
            `energy` [B] (eV), `forces` [N, 3] (eV/Angstrom) if regress_forces,
            `bond_parameters` [P, 5] with `bond_index` [2, P] and `bond_distance` [P] if asked for,
            and where the batch asks for them `energy_displaced` [displaced.sum()] and
            `forces_displaced` [M, 3], `energy_equilibrium` [B] and `forces_equilibrium` [N, 3],
            `masked_logits` [N, 119].
        """
        pos, atom_type = data.pos, _atom_types(data.atomic_numbers)
        periodic = _lattice(data)
        neighbors = find_neighbors(pos, data.natoms, self.cutoff, *periodic)
        plain = self._must_be_plain(*(data[key] for key in POSITIONS if key in data))
        embed = partial(self._embed, on_knots=pos.device.type == "cpu" and not plain)

        def energy_of(atom_type: torch.Tensor, neighbors: Neighbors):
            """The energies of structures as a function of their positions."""

            def energy_at(pos: torch.Tensor, trained: bool = True) -> torch.Tensor:
                copies = len(pos) // len(atom_type)
                types = atom_type.repeat(copies)
                graph = measure(pos, neighbors.repeat(copies), self.cutoff)
                return self.readout(*embed(types, graph, trained=trained), types, graph)

            return energy_at

        out = {}
        energy_at = energy_of(atom_type, neighbors)
        if self.regress_forces:
            out["energy"], out["forces"] = self._with_forces(energy_at, pos, neighbors, plain)
        else:
            out["energy"] = energy_at(pos)
        if self.bond_parameters:
            graph = measure(pos, neighbors, self.cutoff)
            x, _ = embed(atom_type, graph)
            out["bond_parameters"] = self.readout.f_bond(x, atom_type, graph)
            out["bond_index"], out["bond_distance"] = graph.pair_index, graph.pair_distance
        if "pos_displaced" in data:
            near = self._displaced_neighbors(data, *periodic)
            types = atom_type[data.displaced[neighbors.batch]]
            energy_at = energy_of(types, near)
            if len(types) == 0:
                out["energy_displaced"], out["forces_displaced"] = pos[:0, 0], pos[:0]
            elif "displaced_forces" in data and data.displaced_forces:
                out["energy_displaced"], out["forces_displaced"] = self._with_forces(
                    energy_at, data.pos_displaced, near, plain
                )
            else:
                out["energy_displaced"] = energy_at(data.pos_displaced)
        if "pos_equilibrium" in data:
            near = find_neighbors(data.pos_equilibrium, data.natoms, self.cutoff, *periodic)
            out["energy_equilibrium"], out["forces_equilibrium"] = self._with_forces(
                energy_of(atom_type, near), data.pos_equilibrium, near, plain
            )
        if "masked" in data:
            types = mask_types(atom_type, data.masked)
            graph = measure(pos, neighbors, self.cutoff)
            out["masked_logits"] = self.classifier(embed(types, graph)[0])
        return out

    def _displaced_neighbors(self, data, cell, pbc) -> Neighbors:
        """Neighbours in the displaced copies of some of the structures."""
        chosen = data.displaced
        lattice = (None if part is None else part[chosen] for part in (cell, pbc))
        return find_neighbors(data.pos_displaced, data.natoms[chosen], self.cutoff, *lattice)

    def _with_forces(self, energy_at, pos: torch.Tensor, neighbors: Neighbors, plain: bool):
        training = torch.is_grad_enabled()
        if training and not plain:
            return energy_and_forces(self, energy_at, pos, neighbors.batch)
        with torch.enable_grad():
            leaf = pos if pos.requires_grad else pos.detach().requires_grad_()
            energy = energy_at(leaf, trained=training)
            forces = forces_of(energy, leaf, create_graph=training)
        return (energy, forces) if training else (energy.detach(), forces.detach())

    def _must_be_plain(self, *positions: torch.Tensor) -> bool:
        """Whether only the plain formulation and exact second derivatives will do.

        That is where somebody else differentiates by the positions, perhaps more than once, and in
        reduced precision, which differences of energies do not survive.
        """
        device = positions[0].device.type
        rough = device == "cuda" and torch.get_float32_matmul_precision() != "highest"
        rough = rough or self.radial_basis.mu.dtype not in (torch.float32, torch.float64)
        tracked = any(pos.requires_grad for pos in positions)
        return tracked or rough or torch.is_autocast_enabled(device)

    def _embed(self, atom_type, graph: Graph, on_knots: bool, trained: bool = True):
        """Final embeddings of the atoms [N, d] and of the [CLS] tokens."""
        if on_knots:
            radial = place_on_knots(self.radial_basis, atom_type, graph, trained)
        else:
            center_type = atom_type.index_select(0, graph.center)
            radial = self.radial_basis(center_type, graph.distance, graph.envelope)
        return self.attention(self.embedding(atom_type, graph, radial), atom_type, graph, radial)


def _lattice(data) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """`cell` [B, 3, 3] and `pbc` [B, 3] of a batch, None where it has none."""
    cell = data.cell.reshape(-1, 3, 3) if "cell" in data else None
    return cell, data.pbc.reshape(-1, 3) if "pbc" in data else None


def _atom_types(atomic_numbers: torch.Tensor) -> torch.Tensor:
    atom_type = atomic_numbers.long()
    unknown = (atom_type < 1) | (atom_type > MAX_ATOMIC_NUMBER)
    if unknown.any():
        raise ValueError(
            f"atomic number {int(atom_type[unknown][0])} is no element: "
            f"atomic_numbers must be 1 to {MAX_ATOMIC_NUMBER}"
        )
    return atom_type


def _check_config(**config) -> None:
    """Say which model key is wrong and what it may be."""

    def require(key: str, right: bool, allowed: str) -> None:
        if not right:
            raise ValueError(f"model.{key}: {config[key]!r} is not possible; it must be {allowed}")

    for key, value in config.items():
        if key.endswith("_channels") or key.startswith("num_"):
            least = 2 if key == "hidden_channels" else 1
            is_count = isinstance(value, int) and not isinstance(value, bool)
            require(key, is_count and value >= least, f"a whole number, at least {least}")
        elif key == "cutoff":
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            require(key, is_number and 0 < value < float("inf"), "a length in Angstrom")
        elif key == "readout":
            require(key, value in READOUTS, "one of " + ", ".join(READOUTS))
        else:
            require(key, isinstance(value, bool), "true or false")
    width = config["attention_channels"]
    require("num_heads", width % config["num_heads"] == 0, f"a divisor of the width {width}")
    require("use_cls", config["use_cls"] or config["readout"] != "cls", "true for readout 'cls'")
    physics = config["readout"] == "physics"
    require("bond_parameters", physics or not config["bond_parameters"], "false without 'physics'")
    require("otf_graph", config["otf_graph"], "true: PhysMol finds its own neighbours")
