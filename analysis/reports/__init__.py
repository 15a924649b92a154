"""Charts, and the report of a store's analysis."""
