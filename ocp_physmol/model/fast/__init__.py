"""What is in the model for speed alone."""
