"""What a new driver puts right before it writes: damaged files, older schemas, leftovers."""

import logging
import uuid
from datetime import UTC, datetime

from orchestrator.storage.contents import UnreadablePart, listing, load_parts
from orchestrator.storage.filesystem import Files
from orchestrator.storage.parts import encoded
from orchestrator.storage.schema import SCHEMA_VERSION, Table

__all__ = ["recover"]

logger = logging.getLogger(__name__)


def recover(files: Files) -> tuple[UnreadablePart, ...]:
    """Make every part readable with the current schema; return those that were set aside.

    Nobody else may write meanwhile. Unreadable files leave their table's folder for `set-aside/`,
    so that `pandas.read_parquet` works on the folder; parts of an older schema are rewritten under
    their own name. A kill at any point leaves the rest to the next call.
    """
    for folder in (*Table, "studies", "probes", ""):
        files.delete_leftovers(folder)
    set_aside = []
    for table in Table:
        for name, part in load_parts(files, table, listing(files, table)):
            if isinstance(part, UnreadablePart):
                _move_away(files, part)
                set_aside.append(part)
            elif part.version < SCHEMA_VERSION:
                files.write(f"{table}/{name}", encoded(table, part.data))
    return tuple(set_aside)


def _move_away(files: Files, part: UnreadablePart) -> None:
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = f"set-aside/{part.table}-{when}-{uuid.uuid4().hex[:8]}-{part.name}"
    files.move(f"{part.table}/{part.name}", target)
    logger.warning("Set aside %s. It lies in %s now.", part, files.address(target))
