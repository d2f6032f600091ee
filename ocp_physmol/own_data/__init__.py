"""One's own calculations: from files that ASE reads to a trained and judged model."""
