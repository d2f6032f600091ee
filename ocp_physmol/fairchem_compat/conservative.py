"""Any of fairchem's energy models, with forces that are the exact derivative of its energy and with
the displaced copies that the physics losses compare (section 3.6)."""

from __future__ import annotations

import copy
import inspect

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import GraphModelMixin
from torch import nn

from ocp_physmol.errors import UserError
from ocp_physmol.model.forces import forces_of

# what an inner model may not choose, each for the reason that a refusal gives
SETTLED = {
    "regress_forces": (False, "forces are differentiated outside of it"),
    "direct_forces": (False, "forces are differentiated outside of it"),
    "otf_graph": (True, "atoms move, so neighbours are found for every batch"),
    "use_pbc": (True, "without it fairchem needs torch_cluster; give molecules a large cell"),
    "use_pbc_single": (False, "displaced copies are made from the batch as a whole"),
}
PER_ATOM = ("atomic_numbers", "tags", "fixed")
PER_STRUCTURE = ("natoms", "cell", "pbc")


@registry.register_model("conservative")
class ConservativeModel(nn.Module, GraphModelMixin):
    """Wraps a model that returns energies, so that every loss of the trainer but that of masked
    atoms applies to it.

    PaiNN and GemNet run unscaled where no `scale_file` is given; neither can evaluate a structure
    in which no two atoms are within the cutoff.

    Args:
        energy_model (dict): the `model` section of the model inside, `name` and options, without
            those that are SETTLED.
        regress_forces (bool): forces as -dE/dx. (default: True)
        otf_graph (bool): must be True: neighbours are always found here. (default: True)

    Raises:
        ValueError: for options that the model inside cannot have; the message names the key.
    """

    copies = ("displaced",)

    def __init__(
        self, energy_model: dict, regress_forces: bool = True, otf_graph: bool = True
    ) -> None:
        super().__init__()
        if not otf_graph:
            raise ValueError("model.otf_graph: False is not possible; it must be true")
        self.regress_forces = regress_forces
        self.otf_graph = otf_graph
        self.energy_model = _build(**energy_model)
        parents = {parent.__name__ for parent in type(self.energy_model).__mro__}
        self.detaches = "DimeNetPlusPlus" in parents

    def generate_graph(self, data, **options):
        return self.energy_model.generate_graph(data, **options)

    def forward(self, data) -> dict[str, torch.Tensor]:
        """Energies and forces of a batch, and of its displaced copies where it brings any.

        Args:
            data: a fairchem batch with `pos` [N, 3] (Angstrom), `atomic_numbers` [N], `natoms` [B],
                `batch` [N] and `cell` [B, 3, 3]. Optional: `displaced` [B] (bool), the structures
                that have a displaced copy, with `pos_displaced` [M, 3], the positions of its atoms,
                and `displaced_forces` (bool), whether their forces are wanted too.

        Returns:
            `energy` [B] (eV), `forces` [N, 3] (eV/Angstrom) if regress_forces, and where the batch
            brings displaced copies `energy_displaced` [displaced.sum()], with `forces_displaced`
            [M, 3] if asked for.

        Raises:
            UserError: if the model inside cannot do without neighbours, and a structure has none.
        """
        energy, forces = self._evaluate(copy.copy(data), self.regress_forces)
        out = {"energy": energy}
        if self.regress_forces:
            out["forces"] = forces
        if "pos_displaced" in data:  # by itself: forces, which cost most, are often not wanted
            wanted = "displaced_forces" in data and bool(data.displaced_forces)
            energy, forces = self._evaluate(displaced_structures(data), wanted)
            out["energy_displaced"] = energy
            if wanted:
                out["forces_displaced"] = forces
        return out

    def _evaluate(self, batch, with_forces: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Energies, and forces if wanted; sets what it needs on `batch`."""
        if len(batch.natoms) == 0:
            return batch.pos.new_zeros(0), torch.zeros_like(batch.pos)
        if not with_forces:
            return self._energy(batch), None
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            if not batch.pos.requires_grad:
                batch.pos = batch.pos.detach().requires_grad_()
            pos = batch.pos
            if self.detaches:
                batch.pos = pos.as_subclass(Attached)
            energy = self._energy(batch)
            forces = forces_of(energy, pos, create_graph=training)
        return (energy, forces) if training else (energy.detach(), forces.detach())

    def _energy(self, batch) -> torch.Tensor:
        try:
            return self.energy_model(batch)["energy"].view(-1).as_subclass(torch.Tensor)
        except ImportError as e:  # where torch_sparse is missing
            raise UserError(str(e)) from e
        except Exception as e:
            alone = (self.generate_graph(batch).neighbors == 0).nonzero()
            if len(alone) == 0:
                raise
            raise UserError(
                f"structure {int(alone[0])} of a batch has no two atoms within model.energy_model."
                f"cutoff, {self.energy_model.cutoff} A, which {type(self.energy_model).__name__} "
                "cannot do without; leave such structures out, or raise the cutoff"
            ) from e


class Attached(torch.Tensor):
    """Positions, and all that is computed from them, which ignore `detach`.

    DimeNet++ detaches the positions that its angles are computed from, and their part of the forces
    would be missing.
    """

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.detach:
            return args[0]
        if func is torch.Tensor.norm:  # has no second derivative for three atoms in line
            return (args[0] ** 2).sum(dim=kwargs["dim"]).clamp(min=1e-12).sqrt()
        return super().__torch_function__(func, types, args, kwargs)


def displaced_structures(data):
    """The displaced copies of a batch as a batch of their own."""
    chosen = data.displaced
    copies = copy.copy(data)
    copies.pos = data.pos_displaced
    for keys, rows in ((PER_ATOM, chosen[data.batch]), (PER_STRUCTURE, chosen)):
        for key in keys:
            if key in data:
                copies[key] = data[key][rows]
    copies.batch = torch.repeat_interleave(copies.natoms)
    return copies


def _build(name: str, **options) -> nn.Module:
    """The model inside, its options checked and completed."""
    model_class = registry.get_model_class(name)
    known = inspect.signature(model_class.__init__).parameters
    if "regress_forces" not in known:
        raise ValueError(f"model.energy_model.name: {name} cannot leave out its own forces")
    for key, (value, reason) in SETTLED.items():
        if options.get(key, value) != value:
            raise ValueError(f"model.energy_model.{key} must be {str(value).lower()}: {reason}")
        if key in known:
            options[key] = value
    return model_class(**options)
