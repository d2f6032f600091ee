"""What bends fairchem 1.10: each place says why."""
