"""The file of OC20's leaderboard: made, checked, scored."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
