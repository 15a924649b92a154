"""Where a study runs: what a cluster has, and what a study needs of it."""
