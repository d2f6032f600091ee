"""Checkpoints of former versions."""

from ocp_physmol.model.config import PhysMolConfig
from ocp_physmol.model.radial import RadialBasis


def of_today(checkpoint: dict) -> dict:
    """A checkpoint with radial functions as they are learned now, by how much they have changed.

    Former ones hold mu and the root of beta themselves. The state of their optimizer, of other
    units, is left out: a training that goes on begins it anew.
    """
    state, average = checkpoint["state_dict"], checkpoint.get("ema")
    if not any(name.endswith("radial_basis.mu") for name in state):
        return checkpoint
    cutoff = checkpoint["config"]["model"].get(
        "cutoff", PhysMolConfig.model_fields["cutoff"].default
    )
    shadows = list(average["shadow_params"]) if average else []
    today = {}
    for place, (name, tensor) in enumerate(state.items()):
        which = name.partition("radial_basis.")[2]
        if which in ("mu", "sqrt_beta"):
            first = getattr(RadialBasis(tensor.shape[1], cutoff), f"first_{which}")
            name, tensor = f"{name}_change", tensor / first.to(tensor) - 1
            if average:  # of all weights, in the same order
                shadows[place] = shadows[place] / first.to(shadows[place]) - 1
        today[name] = tensor
    found = {key: value for key, value in checkpoint.items() if key != "optimizer"}
    return {**found, "state_dict": today, "ema": average and {**average, "shadow_params": shadows}}
