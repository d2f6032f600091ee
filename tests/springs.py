"""A predictor whose minima are known: springs between all atoms, as long as at the reference."""

import torch

from ocp_physmol.relaxation.predictor import Predictor

STIFFNESS = 10.0  # eV/Angstrom^2


class Springs(Predictor):
    """Stands for a trained model. Energy is 0 at the minima, positive elsewhere.

    Args:
        structures: the minima, told apart by their `sid`.
        diseased: forces of each structure with this `sid` are `value`.
    """

    device = torch.device("cpu")

    def __init__(self, structures, diseased: int | None = None, value: float = torch.nan) -> None:
        self._lengths = {int(s.sid): distances(s.pos) for s in structures}
        self._diseased, self._value = diseased, value

    def predict(self, batch) -> dict[str, torch.Tensor]:
        assert torch.isfinite(batch.pos).all()  # as real models, whose neighbour lists want it
        energies, forces = [], []
        for sid, pos in zip(batch.sid.tolist(), batch.pos.split(batch.natoms.tolist())):
            pos = pos.double().requires_grad_()
            energy = STIFFNESS / 2 * (distances(pos) - self._lengths[sid]).square().sum()
            force = -torch.autograd.grad(energy, pos)[0]
            energies.append(energy.detach())
            forces.append(force if sid != self._diseased else torch.full_like(force, self._value))
        return {"energy": torch.stack(energies), "forces": torch.cat(forces).float()}


def distances(pos: torch.Tensor) -> torch.Tensor:
    """Of all pairs, each once."""
    return torch.pdist(pos.double())
