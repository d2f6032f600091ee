"""Adaptations of fairchem 1.10; each file says why."""
