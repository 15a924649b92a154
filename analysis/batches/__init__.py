"""Batch sizes: the best one of every run, the law that they follow, and where more stops paying."""
