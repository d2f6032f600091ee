"""Which frames to train on, and which to keep for validation and test."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from ocp_physmol.errors import UserError

EVALUATION = ("id", "ood_ads", "ood_cat", "ood_both")  # OC20's kinds of validation and test


class Frame(NamedTuple):
    """Where a usable frame is, and what it belongs to."""

    file: int
    fid: int  # its index in the file
    sid: int  # its system


def deal(frames: list[Frame], fractions: dict[str, float], seed: int) -> dict[str, list[Frame]]:
    """Deal whole systems to the splits at random; each gets about its fraction of the frames.

    Args:
        frames: of at least as many systems as there are splits.
        fractions: by split.
    """
    sizes = Counter(frame.sid for frame in frames)
    lacking = {split: share * len(frames) for split, share in fractions.items()}
    members: dict[str, set[int]] = {split: set() for split in fractions}
    order = np.random.default_rng(seed).permutation(list(sizes)).tolist()
    for left, sid in zip(range(len(order), 0, -1), order):
        empty = [split for split in fractions if not members[split]]
        split = max(empty if left == len(empty) else fractions, key=lambda split: lacking[split])
        members[split].add(sid)
        lacking[split] -= sizes[sid]
    return {split: [f for f in frames if f.sid in members[split]] for split in fractions}


def cut(frames: list[Frame], fractions: dict[str, float]) -> dict[str, list[Frame]]:
    """Contiguous blocks of the frames, for where there are fewer systems than splits.

    Raises:
        UserError: if there are fewer frames than splits, too.
    """
    counts = {split: max(1, round(share * len(frames))) for split, share in fractions.items()}
    counts["train"] += len(frames) - sum(counts.values())
    if counts["train"] < 1:
        raise UserError(
            f"{len(frames)} usable frames are too few for {len(fractions)} splits; give more data, "
            "or smaller fractions --val and --test (0: no such split)"
        )
    ends = np.cumsum(list(counts.values())).tolist()
    return {split: frames[end - counts[split] : end] for split, end in zip(counts, ends)}
