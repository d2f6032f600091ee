"""Section 3.7: the registered trainer."""
