"""What can be wrong with a cluster description."""

__all__ = ["DescriptionError"]


class DescriptionError(Exception):
    """The description cannot be rendered as asked; says where in it the fault is."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        """Say `message` of what stands at `path`: keys and list positions from the top."""
        super().__init__(message)
        self.path = path
