"""How many labels must be put in, taken out or changed to make one sequence of another."""

import torch
from torch import Tensor

__all__ = ["edit_distances"]


def edit_distances(
    sequences: Tensor, lengths: Tensor, references: Tensor, reference_lengths: Tensor
) -> Tensor:
    """Return the (n,) Levenshtein distances of n pairs of sequences.

    `sequences`: (n, S), of each of which the first of (n,) `lengths` count; `references`: (n, R)
    alike. One row of the table at a time, for all pairs and columns together: within a row,
    d[j] = min(c[j], d[j−1] + 1), which is the running minimum of c[j] − j, plus j.
    """
    columns = torch.arange(references.shape[1] + 1, device=references.device)
    row = columns.repeat(len(references), 1)
    longest = int(lengths.max()) if len(lengths) else 0
    for place in range(longest):
        changed = row[:, :-1] + (references != sequences[:, place : place + 1])
        ways = torch.cat([row[:, :1] + 1, torch.minimum(row[:, 1:] + 1, changed)], dim=1)
        following = torch.cummin(ways - columns, dim=1).values + columns
        row = torch.where((place < lengths)[:, None], following, row)
    return row.gather(1, reference_lengths[:, None]).squeeze(1)
