"""What is kept and shown, and so must hold no secret."""

import re

__all__ = ["looks_like_credential"]

CREDENTIAL = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY", re.IGNORECASE
)


def looks_like_credential(variable: str) -> bool:
    """Return whether an environment variable of this name would hold a secret."""
    return CREDENTIAL.search(variable) is not None
