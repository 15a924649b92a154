"""Oracles: workloads whose results are known, to check the whole way from study file to verdict.

What to use when:

- `noisy_quadratic`: the best batch size, against the expected risk of every cell in closed form.
- `linear_spectrum`: a learning curve of real descent, against random-matrix theory.
- `memorizer`: a learning curve whose expected error is a finite sum, for any exponent.

Beside each stands a module of its closed forms, which no training uses. Held-out sets are made so
that their means are the population's, or nearly: what is left to chance is the cell's own.
"""
