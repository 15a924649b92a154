"""The study file and its small languages: axes, budgets, constraints, resources."""
