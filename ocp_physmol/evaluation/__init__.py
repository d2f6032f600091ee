"""Section 4: what a trained model is asked, and how its answers are judged."""

import ocp_physmol.scatter_fallback  # noqa: F401  # fairchem needs it
