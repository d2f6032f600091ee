"""Which frames to train on, and which to keep for validation and test."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ocp_physmol.errors import UserError

EVALUATION = ("id", "ood_ads", "ood_cat", "ood_both")  # OC20's kinds of validation and test


def deal(sids: Sequence[int], fractions: dict[str, float], seed: int) -> dict[str, Sequence[int]]:
    """Indices of the frames of each split: whole systems at random, about its fraction of frames.

    `sids` names the system of each frame. There are at least as many systems as splits. Large
    systems are dealt first, those of one size in random order, so that the largest trains.
    """
    sizes = Counter(sids)
    lacking = {split: share * len(sids) for split, share in fractions.items()}
    members: dict[str, set[int]] = {split: set() for split in fractions}
    shuffled = np.random.default_rng(seed).permutation(list(sizes)).tolist()
    order = sorted(shuffled, key=lambda sid: -sizes[sid])
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


def every_nth(trajectories: Sequence[Sequence[int]], n: int) -> dict[str, list[int]]:
    """Frames of every trajectory in each split: every `n`-th is test, one in 2 `n` validation.

    A trajectory is the indices of its frames, in order. Validation frames lie between two of test.
    """
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for trajectory in trajectories:
        for k, index in enumerate(trajectory):
            split = "test" if k % n == 0 else "val" if k % (2 * n) == n // 2 else "train"
            parts[split].append(index)
    return parts


def fold(trajectories: Sequence[Sequence[int]], number: int, folds: int) -> dict[str, list[int]]:
    """Whole trajectories in each split; every one is test in one of the folds 0, 1, ...

    The test trajectories are every `folds`-th, beginning with the one that `number` counts. Every
    third of the next fold's validates. A UserError if none is left to train on.
    """
    test = trajectories[number::folds]
    val = trajectories[(number + 1) % folds :: folds][::3]
    train = [t for t in trajectories if t not in test and t not in val]
    if not (train and val and test):
        raise UserError(
            f"{len(trajectories)} relaxations are too few for {folds} folds; give more of them, or "
            "lower surfaces.folds in the experiment file"
        )
    parts = {"train": train, "val": val, "test": test}
    return {split: [k for t in members for k in t] for split, members in parts.items()}
