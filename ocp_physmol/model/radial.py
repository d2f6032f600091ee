"""Section 3.2, Eq. 2-3: radial basis functions with a cosine envelope."""

import math

import torch
from torch import nn

from ocp_physmol.model.elements import NUM_TYPES

SHORTEST = 0.1  # of the cutoff, of the first centre


def cosine_envelope(distance: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Eq. 3 at `distance` [...] (Angstrom): 1 at zero, 0 with zero slope from `cutoff` tau on."""
    return raised_cosine(distance.clamp(max=cutoff), cutoff)


def raised_cosine(distance: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Eq. 3 up to `cutoff`, and its smooth continuation beyond."""
    return 0.5 * (torch.cos(math.pi / cutoff * distance) + 1)


def switched_off(x: torch.Tensor) -> torch.Tensor:
    """1 at `x` <= 0, 0 at `x` >= 1, with two continuous derivatives; monotone in between."""
    left = 1 - x.clamp(0, 1)
    return left**3 * (10 - 15 * left + 6 * left**2)


class RadialBasis(nn.Module):
    """Eq. 2: psi_ijk = phi(d_ij) exp(-beta_{z_i,k} (exp(-d_ij) - mu_{z_i,k})^2).

    Centres mu and widths beta of the `num_rbf` functions are learned for each type of the centre
    atom. They start evenly spaced in the distance, from SHORTEST times the `cutoff` tau (Angstrom)
    on, each as wide as the spacing. Evenly spaced in exp(-d), as in PhysNet (Unke & Meuwly, 2019),
    few would tell the distances between metal atoms from each other.

    What is learned is by which share of itself each has changed. An optimizer's steps are alike for
    all weights, and one of 0.003 is half of the mu of a function at 5 Angstrom: it would soon be
    negative, which no exp(-d) is.
    """

    def __init__(self, num_rbf: int, cutoff: float) -> None:
        super().__init__()
        self.num_rbf = num_rbf
        self.cutoff = cutoff
        distance = torch.linspace(SHORTEST * cutoff, cutoff, num_rbf)
        spacing = (1 - SHORTEST) * cutoff / max(num_rbf - 1, 1)
        # the square root keeps beta from ever turning negative
        sqrt_beta = torch.exp(distance) / (math.sqrt(2) * spacing)
        self.register_buffer("first_mu", torch.exp(-distance), persistent=False)
        self.register_buffer("first_sqrt_beta", sqrt_beta, persistent=False)
        self.mu_change = nn.Parameter(torch.zeros(NUM_TYPES, num_rbf))
        self.sqrt_beta_change = nn.Parameter(torch.zeros(NUM_TYPES, num_rbf))

    @property
    def mu(self) -> torch.Tensor:
        """[119, num_rbf]"""
        return self.first_mu * (1 + self.mu_change)

    @property
    def sqrt_beta(self) -> torch.Tensor:
        """[119, num_rbf]"""
        return self.first_sqrt_beta * (1 + self.sqrt_beta_change)

    def changes(self, mu: torch.Tensor, sqrt_beta: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters with which the functions have these centres and widths."""
        firsts = self.first_mu.to(mu), self.first_sqrt_beta.to(sqrt_beta)
        return {"mu_change": mu / firsts[0] - 1, "sqrt_beta_change": sqrt_beta / firsts[1] - 1}

    def forward(
        self, center_type: torch.Tensor, distance: torch.Tensor, envelope: torch.Tensor
    ) -> torch.Tensor:
        """psi [E, num_rbf] from `center_type`, `distance` (Angstrom) and `envelope`, all [E]."""
        mu = self.mu.index_select(0, center_type)  # [E, num_rbf]
        sqrt_beta = self.sqrt_beta.index_select(0, center_type)  # [E, num_rbf]
        exponent = (sqrt_beta * (torch.exp(-distance)[:, None] - mu)).square()
        return envelope[:, None] * torch.exp(-exponent)
