"""Section 3.4-3.7: the terms of the objective (Eq. 10)."""
