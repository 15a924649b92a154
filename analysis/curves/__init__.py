"""Learning curves: error against the number of examples, its exponent, and what it foretells."""
