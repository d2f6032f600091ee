"""A trained model opened, and structures relaxed with it."""
