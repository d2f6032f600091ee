"""EquiformerV2 with an energy that knows the directions of its edges when it is differentiated.

fairchem's detaches the rotations of edges, since its forces are an output of their own. The
gradient of its energy would lack all that depends on angles. eSEN, in the same package, has
rotations that can be differentiated; here EquiformerV2 takes those.
"""

from functools import wraps

import torch
from fairchem.core.models.equiformer_v2.equiformer_v2_deprecated import EquiformerV2
from fairchem.core.models.equiformer_v2.so3 import SO3_Rotation
from fairchem.core.models.equiformer_v2.wigner import _Jd
from fairchem.core.models.esen.common.rotation import init_edge_rot_mat, rotation_to_wigner


class DifferentiableEquiformerV2(EquiformerV2):
    """EquiformerV2, for a conservative model. Its weights and options are those of fairchem's."""

    @wraps(EquiformerV2.__init__)  # type: ignore[misc]  # its options, which checks look up
    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        for k, lmax in enumerate(self.lmax_list):  # the blocks share this list
            self.SO3_rotation[k] = DifferentiableRotation(lmax)

    def _init_edge_rot_mat(self, data, edge_index, edge_distance_vec) -> torch.Tensor:
        return init_edge_rot_mat(edge_distance_vec, rot_clip=True)


class DifferentiableRotation(SO3_Rotation):
    """Wigner matrices through which gradients pass; constant for edges along the y axis."""

    def set_wigner(self, rot_mat3x3: torch.Tensor) -> None:
        """Take over the rotations [E, 3, 3] of the edges."""
        self.device, self.dtype = rot_mat3x3.device, rot_mat3x3.dtype
        blocks = [block.to(rot_mat3x3) for block in _Jd[: self.lmax + 1]]
        self.wigner = rotation_to_wigner(rot_mat3x3, 0, self.lmax, blocks, rot_clip=True)
        self.wigner_inv = self.wigner.transpose(1, 2).contiguous()
