"""`python -m orchestrator` is `scaling-study`, also where only the packages are on the path."""

from orchestrator.cli import main

main()
