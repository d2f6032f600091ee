"""Names of structures, which data sets hold as numbers, text or tensors."""

from __future__ import annotations

import torch


def plain(identifier) -> int | str:
    """A `sid` or `fid` as a number or text."""
    return identifier.item() if torch.is_tensor(identifier) else identifier
