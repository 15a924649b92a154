"""Design before data: what a planned study can be expected to decide."""
