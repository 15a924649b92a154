"""Environment variables that belong into nothing that is kept, shown, or said twice."""

import re

__all__ = ["SETTLED_VARIABLES", "looks_like_credential"]

CREDENTIAL = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY", re.IGNORECASE
)


SETTLED_VARIABLES = {"RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_OVERRIDE_RESOURCES"}
"""Variables that a cluster's own files say: nobody else may."""


def looks_like_credential(variable: str) -> bool:
    """Return whether an environment variable of this name would hold a secret."""
    return CREDENTIAL.search(variable) is not None
