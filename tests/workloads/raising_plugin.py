"""A plug-in whose import fails."""

raise RuntimeError("the licence server is away")
