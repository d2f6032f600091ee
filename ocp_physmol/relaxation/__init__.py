"""A trained model opened, and structures relaxed with it."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
