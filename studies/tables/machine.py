"""What each study cost, and on what it ran."""

from collections.abc import Iterator

from analysis.loading import FAILED
from studies.tables.learning_curves import DOMAINS
from studies.tables.markdown import table
from studies.tables.stores import NotRunError, Stores


def machine(stores: Stores) -> Iterator[str]:
    """Yield what each study cost, and on what it ran."""
    rows: list[tuple[str, ...]] = []
    domains = dict.fromkeys(domain.study for domain in DOMAINS)
    for study in (*domains, "smith_le", "memorize", "dont_decay"):
        try:
            cells = stores.cells(study)
        except NotRunError as error:
            rows.append((study, f"not told: {error}"))
            continue
        failed = cells["status"] == FAILED
        done = cells[~failed]
        rows.append(
            (
                study,
                f"{len(cells):,}",
                f"{(done['status'] == 'diverged').sum():,}",
                f"{failed.sum():,}",
                f"{done['wall_seconds'].sum() / 60:,.0f}",
                f"{done['training_flops'].sum():.2g}",
                ", ".join(
                    f"{name} {'/'.join(sorted(done[column].astype(str).unique()))}"
                    for name, column in (
                        ("torch", "torch_version"),
                        ("ray", "ray_version"),
                        ("scaling-study", "code_version"),
                    )
                ),
            )
        )
    heads = ("study", "cells", "diverged", "failed", "minutes of one core", "training FLOPs")
    yield from table((*heads, "versions"), rows)
