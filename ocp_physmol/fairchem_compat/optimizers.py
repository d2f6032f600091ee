"""Optimizers that torch does not have: fairchem 1.10 looks for `optim.optimizer` in torch.optim."""

import torch

BEYOND_TORCH = ("SOAP",)  # of the package pytorch_optimizer


def find_optimizer(name: str) -> type[torch.optim.Optimizer] | None:
    """The optimizer of that name, where fairchem looks for it, too; None if there is none.

    SOAP (Vyas et al., 2024) is Adam in the eigenbasis of Shampoo's preconditioner.
    """
    if name in BEYOND_TORCH and not hasattr(torch.optim, name):
        import pytorch_optimizer  # takes a while to import

        setattr(torch.optim, name, getattr(pytorch_optimizer, name))
    found = getattr(torch.optim, name, None)
    return found if isinstance(found, type) else None
