"""Rounds of packs, on Ray Tune or inline: the driver, its trials, what goes on after a fault."""
