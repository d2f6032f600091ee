"""Any of fairchem's energy models, with forces that are the exact derivative of its energy."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import GraphModelMixin
from torch import nn
from torch_geometric.data import Batch

from ocp_physmol.errors import UserError
from ocp_physmol.model.copies import Copy
from ocp_physmol.model.forces import forces_of
from ocp_physmol.validation import Section

# options that the model inside may not choose, and why
SETTLED = {
    "regress_forces": (False, "forces are differentiated outside of it"),
    "direct_forces": (False, "forces are differentiated outside of it"),
    "otf_graph": (True, "atoms move, so neighbours are found for every batch"),
    "use_pbc": (True, "without it fairchem needs torch_cluster; give molecules a large cell"),
    "use_pbc_single": (False, "copies are made from the batch as a whole"),
}


class ConservativeConfig(Section, title="model"):
    """Section `model` of a configuration, without its `name`."""

    energy_model: dict[str, Any]  # `name` and options of the model inside, without the SETTLED
    regress_forces: bool = True  # forces as -dE/dx
    otf_graph: Literal[True] = True  # neighbours are always found by the model


@registry.register_model("conservative")
class ConservativeModel(nn.Module, GraphModelMixin):
    """A model that returns energies, wrapped for all of the trainer's losses but masked atoms.

    PaiNN and GemNet run unscaled without a `scale_file`. Neither can evaluate a structure in which
    no two atoms are within the cutoff. Options are those of `ConservativeConfig`; a ValueError
    names the key of one that the model inside cannot have.
    """

    Config = ConservativeConfig

    def __init__(self, energy_model: dict, **options) -> None:
        super().__init__()
        self.config = ConservativeConfig(energy_model=energy_model, **options)
        self.outputs = ("energy", "forces") if self.config.regress_forces else ("energy",)
        self.otf_graph = True
        self.energy_model = _build(**energy_model)
        self.detaches = "DimeNetPlusPlus" in [c.__name__ for c in type(self.energy_model).__mro__]

    def generate_graph(self, data, **options):
        return self.energy_model.generate_graph(data, **options)

    def forward(
        self, data: Batch, outputs: Sequence[str] = (), copies: Sequence[Copy] = ()
    ) -> dict:
        """Energies and forces of a batch, and of copies of it. Each costs what it would by itself.

        Arguments and outputs are those of `PhysMol.forward`, but `data` must have a `cell`, and
        there are no `masked_logits`. A structure without neighbours is a UserError if the model
        inside cannot evaluate it.
        """
        out: dict = self._evaluate(copy.copy(data), outputs or self.outputs)
        for one in copies:
            out[one.name] = self._evaluate(one.of(data), one.outputs)
        return out

    def _evaluate(self, batch: Batch, outputs: Sequence[str]) -> dict[str, torch.Tensor]:
        """Outputs of a batch, which is changed."""
        if len(batch.natoms) == 0:
            return {"energy": batch.pos.new_zeros(0), "forces": torch.zeros_like(batch.pos)}
        if "forces" not in outputs:
            return {"energy": self._energy(batch)}
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            pos = batch.pos if batch.pos.requires_grad else batch.pos.detach().requires_grad_()
            batch.pos = pos.as_subclass(Attached) if self.detaches else pos
            energy = self._energy(batch)
            forces = forces_of(energy, pos, create_graph=training)
        out = {"energy": energy, "forces": forces}
        return out if training else {key: value.detach() for key, value in out.items()}

    def _energy(self, batch) -> torch.Tensor:
        try:
            return self.energy_model(batch)["energy"].view(-1).as_subclass(torch.Tensor)
        except ImportError as e:  # where torch_sparse is missing
            raise UserError(str(e)) from e
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as e:  # each model stumbles in its own way
            if problem := self._problem(batch):
                name = type(self.energy_model).__name__
                raise UserError(f"{name} cannot evaluate a batch: {problem}") from e
            raise

    def _problem(self, batch: Batch) -> str | None:
        """What fairchem's models cannot evaluate, and the cure; None if it is not in the batch."""
        if "cell" not in batch:
            return "its structures have no cell; add a large one, or use model.name: physmol"
        if "pbc" in batch and (batch.pbc != batch.pbc[:1]).any():
            return (
                "its structures have different periodic boundaries; train on one kind of them, or "
                "use model.name: physmol"
            )
        alone = (self.generate_graph(batch).neighbors == 0).nonzero()
        if len(alone) == 0:
            return None
        return (
            f"structure {int(alone[0])} has no two atoms within model.energy_model.cutoff, "
            f"{self.energy_model.cutoff} A; leave such structures out, or raise the cutoff"
        )


class Attached(torch.Tensor):
    """Positions, and tensors computed from them, that ignore `detach`.

    DimeNet++ detaches the positions for its angles, whose part of the forces would be missing.
    """

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.detach:
            return args[0]
        if func is torch.Tensor.norm:  # has no second derivative for three atoms in line
            return (args[0] ** 2).sum(dim=kwargs["dim"]).clamp(min=1e-12).sqrt()
        return super().__torch_function__(func, types, args, kwargs or {})


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
