"""Which frames to train on, and which to keep for validation and test."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ocp_physmol.errors import UserError

EVALUATION = ("id", "ood_ads", "ood_cat", "ood_both")  # OC20's kinds of validation and test


def deal(sids: Sequence[int], fractions: dict[str, float], seed: int) -> dict[str, Sequence[int]]:
    """Indices of the frames of each split: whole systems at random, about its fraction of frames.

    `sids` names the system of each frame. There are at least as many systems as splits.
    """
    sizes = Counter(sids)
    lacking = {split: share * len(sids) for split, share in fractions.items()}
    members: dict[str, set[int]] = {split: set() for split in fractions}
    order = np.random.default_rng(seed).permutation(list(sizes)).tolist()
    for left, sid in zip(range(len(order), 0, -1), order):
        empty = [split for split in fractions if not members[split]]
        split = max(empty if left == len(empty) else fractions, key=lambda split: lacking[split])
        members[split].add(sid)
        lacking[split] -= sizes[sid]
    return {split: [k for k, sid in enumerate(sids) if sid in members[split]] for split in members}


def cut(number: int, fractions: dict[str, float]) -> dict[str, Sequence[int]]:
    """Contiguous blocks of frames, where systems are too few; a UserError if frames are, too."""
    counts = {split: max(1, round(share * number)) for split, share in fractions.items()}
    counts["train"] += number - sum(counts.values())
    if counts["train"] < 1:
        raise UserError(
            f"{number} usable frames are too few for {len(fractions)} splits; give more data, "
            "or to `ocp-physmol data files` smaller --val and --test (0: no such split)"
        )
    ends = np.cumsum(list(counts.values())).tolist()
    return {split: range(end - counts[split], end) for split, end in zip(counts, ends)}
