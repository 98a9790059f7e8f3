"""The one exact k-nearest-neighbour engine that every metric and callback uses.

Candidates come from bfloat16 or float32 matrix products of centred rows (screening.py), and are
re-ranked by direct difference in float64. A rounding bound certifies each row: whatever was not a
candidate is provably farther than the k-th neighbour. Rows that fail it are searched again, in
float32 and then in float64.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from novum.core import distributed
from novum.core.errors import InputError, NotComputable
from novum.core.memory import free_device_bytes
from novum.core.precision import full_precision
from novum.core.products import row_products
from novum.metrics.candidate_filter import (
    MARGIN,
    Candidates,
    Rows,
    centred,
    exact_sums,
    find_candidates,
    gamma,
    middle,
    screening_dtypes,
    values_at_once,
)
from novum.metrics.checks import check_features, check_same_width

MAX_BYTES = 512 * 2**20  # of working memory on a CPU


def working_bytes(device: torch.device) -> int:
    """Bytes that a search may take on a device."""
    if device.type == "cpu":
        return MAX_BYTES
    return max(MAX_BYTES, free_device_bytes(device) // 2)


class Neighbours(NamedTuple):
    distances: Tensor  # (m, k) float64, ascending
    indices: Tensor  # (m, k) int64, ties by the smaller index


Search = Callable[[Tensor, Tensor | Rows, int], Neighbours]  # knn, or knn_together


def knn(
    queries: Tensor, reference: Tensor | Rows, k: int, *, max_bytes: int | None = None
) -> Neighbours:
    """The k nearest reference rows of each query, exact, in about `max_bytes` of working memory.

    Takes floats or uint8 (n, d) or (n, c, h, w), and searches on the reference's device. The result
    does not depend on the block sizes; by default they take 512 MiB, or half of what a GPU has
    free.
    """
    queries = _rows(queries, "queries")
    reference = reference if isinstance(reference, Rows) else _rows(reference, "reference")
    check_same_width(queries=queries, reference=reference)
    if not 1 <= k <= len(reference):
        raise NotComputable(f"k = {k} neighbours asked of {len(reference)} reference rows")
    if queries.device != reference.device:
        queries = queries.to(reference.device)
    max_bytes = working_bytes(queries.device) if max_bytes is None else max_bytes
    with torch.no_grad(), full_precision(queries.device), exact_sums():
        squared, indices, certain = _search(queries, reference, k, max_bytes)
        redo = (~certain).nonzero()[:, 0]
        if len(redo):
            found = _search_again(Rows(queries, redo), reference, squared[redo], max_bytes)
            squared[redo], indices[redo] = found
    return Neighbours(squared.sqrt(), indices)


def knn_sharded(
    queries: Tensor,
    share: Tensor | Rows,
    rows: Tensor,
    k: int,
    *,
    group: dist.ProcessGroup | None = None,
    max_bytes: int | None = None,
) -> Neighbours:
    """`knn` over a reference shared out over the ranks: the same answer for any number of them.

    Each rank passes all queries, its share of the reference and the ascending row numbers of that
    share in the whole (`arange(rank, n, ranks)`, say). Only k neighbours per query and rank travel,
    through the CPU's memory where the group is gloo's.
    """
    home = share.device if group is None else torch.device("cpu")
    if rows.shape != (len(share),) or (rows.diff() <= 0).any():
        raise InputError(f"rows must be ascending, one for each of the share's {len(share)} rows")
    sizes = _gather(torch.tensor([[len(share), len(queries)]], device=home), group)
    total, counts = int(sizes[:, 0].sum()), sizes[:, 1].tolist()
    if len(set(counts)) > 1:
        raise InputError(f"ranks have {counts} queries: pass the same ones on every rank")
    if not 1 <= k <= total:
        raise InputError(f"k = {k} neighbours asked of {total} reference rows")
    m, near = len(queries), min(k, len(share))
    distances = torch.full((m, k), torch.inf, dtype=torch.float64, device=home)
    indices = torch.full((m, k), 2**62, device=home)
    if near:
        found = knn(queries, share, near, max_bytes=max_bytes)
        distances[:, :near] = found.distances.to(home)
        indices[:, :near] = rows.to(share.device)[found.indices].to(home)
    # rank after rank, (ranks * k, m)
    distances, indices = (_gather(x.T.contiguous(), group).T for x in (distances, indices))
    distances, indices = by_distance(distances, indices)
    return Neighbours(distances[:, :k], indices[:, :k])


def knn_together(queries: Tensor, reference: Tensor | Rows, k: int) -> Neighbours:
    """`knn` by all ranks at once, each in its share of a reference that all can read.

    Searches on the reference's device; the result is in the CPU's memory.
    """
    if distributed.world_size() == 1:
        return Neighbours(*(x.cpu() for x in knn(queries, reference, k)))
    own = distributed.shard(len(reference))
    distributed.barrier("nearest neighbours")
    rows = torch.arange(own.start, own.stop)
    share = reference.part(own) if isinstance(reference, Rows) else reference[own]
    return knn_sharded(queries, share, rows, k, group=distributed.cpu_group())


def neighbour_distances(reference: Tensor, k: int, *, search: Search = knn) -> Tensor:
    """Distances of each row to its k nearest others, (n, k + 1) float64; the first is its own 0."""
    if len(reference) <= k:
        raise NotComputable(
            f"{len(reference)} samples have no {k}-th neighbour: {k + 1} are needed"
        )
    return search(reference, reference, k + 1).distances


def kth_neighbour_radii(reference: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest other row, (n,) float64."""
    return neighbour_distances(reference, k)[:, k]


def sphere_sides(
    queries: Tensor, centres: Tensor, radii: Tensor, *, max_bytes: int | None = None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """`sides_of_spheres` of one ball (n,) around each centre."""
    found = sides_of_spheres(queries, centres, radii[None], max_bytes=max_bytes)
    for rows, columns, sides in found:
        yield rows, columns, sides[0]


def sides_of_spheres(
    queries: Tensor, centres: Tensor, radii: Tensor, *, max_bytes: int | None = None
) -> Iterator[tuple[slice, slice, list[Tensor]]]:
    """Exact side of each ball that each query is on: blocks of sign(|q - c| - radius) as int8.

    Yields (query rows, centre rows, signs of each of radii (r, n)): -1 inside, 0 on the sphere, 1
    outside.
    """
    centre = middle(centres)
    max_bytes = working_bytes(queries.device) if max_bytes is None else max_bytes
    tile = max(1, int((max_bytes / 24) ** 0.5))  # about six float32 tiles at a time
    largest = 1024 if queries.device.type == "cpu" else 16384  # stays in a CPU's cache
    tile = min(tile, max(1, max_bytes // (16 * queries.shape[1])), largest)
    for i in range(0, len(queries), tile):
        rows = slice(i, min(i + tile, len(queries)))
        for j in range(0, len(centres), tile):
            columns = slice(j, min(j + tile, len(centres)))
            with torch.no_grad(), full_precision(queries.device):
                sides = _sphere_tile(queries[rows], centres[columns], radii[:, columns], centre)
            yield rows, columns, sides


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 over the last axis in float64, by halving: the same bits in any block or device."""
    return halved_sum((a.double() - b.double()).square_())


def halved_sum(terms: Tensor) -> Tensor:
    """Sum over the last axis, by halving, in place."""
    while (width := terms.shape[-1]) > 1:
        half = (width + 1) // 2
        terms[..., : width - half] += terms[..., half:]
        terms = terms[..., :half]
    return terms[..., 0].clone()  # lets go of the rest


def distinct_rows(x: Tensor | Rows) -> tuple[Tensor, Tensor]:
    """Row numbers of the first of each set of equal rows, ascending, and each row's set."""
    keys = _row_hashes(x)
    _, inverse = keys.unique(return_inverse=True)
    first = _first_of_each(inverse)
    if len(first) < len(x):
        source = first[inverse]  # the row that each row should equal
        doubtful = (source != torch.arange(len(x), device=x.device)).nonzero()[:, 0]
        for rows in doubtful.split(4096):
            clash = rows[
                (x[rows] != x[source[rows]]).any(1)
            ]  # equal hash, other row: keep it apart
            inverse[clash] = inverse.max() + 1 + torch.arange(len(clash), device=x.device)
        first = _first_of_each(inverse)
    order = first.argsort()  # number the sets by their first row
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
    return first[order], rank[inverse]


def _gather(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The x of all ranks, one after the other."""
    if not (dist.is_available() and dist.is_initialized()):
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x, group=group)
    return torch.cat(parts)


def found_in(x: Tensor, other: Tensor) -> Tensor:
    """Mask (n,) of rows of x that equal a row of the other set, whose rows are distinct."""
    hashes, order = _row_hashes(other).sort()
    own = _row_hashes(x)
    place = torch.searchsorted(hashes, own).clamp(max=len(hashes) - 1)
    found = hashes[place] == own
    rows = found.nonzero()[:, 0]
    for part in rows.split(4096):  # equal hashes are all but certainly equal rows
        found[part] = (x[part] == other[order[place[part]]]).all(1)
    return found


def _rows(x: Tensor, name: str) -> Tensor:
    if isinstance(x, Tensor) and x.ndim > 2:
        x = x.flatten(1)
    return check_features(x, name)


def _search(
    queries: Tensor | Rows, reference: Tensor | Rows, k: int, max_bytes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances and indices of the k nearest, and which rows are certain.

    Rows that bfloat16 does not settle are screened in float32.
    """
    cheap, *finer = screening_dtypes(reference.device)
    squared, indices, certain = _search_screened(queries, reference, k, cheap, None, max_bytes)
    for dtype in finer:
        redo = (~certain).nonzero()[:, 0]
        if len(redo):
            within = squared[redo, -1].float() * (1 + 1e-6)  # k rows are known to be that near
            found = _search_screened(Rows(queries, redo), reference, k, dtype, within, max_bytes)
            squared[redo], indices[redo], certain[redo] = found
    return squared, indices, certain


def _search_screened(
    queries: Tensor | Rows,
    reference: Tensor | Rows,
    k: int,
    dtype: torch.dtype,
    within: Tensor | None,
    max_bytes: int,
) -> tuple[Tensor, Tensor, Tensor]:
    quarter = max_bytes // 4
    block = max(1, quarter // (4 * reference.shape[1] + 32 * (2 * k + MARGIN)))
    parts = []
    for i in range(0, len(queries), block):
        part = queries[i : i + block]
        limit = None if within is None else within[i : i + block]
        candidates = find_candidates(
            part, reference, k, dtype=dtype, within=limit, max_bytes=quarter
        )
        parts.append(_rank(part, reference, candidates, k))
    squared, indices, certain = (torch.cat(part) for part in zip(*parts, strict=True))
    return squared, indices, certain


def _rank(
    queries: Tensor, reference: Tensor | Rows, candidates: Candidates, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Exact distances decide: the k nearest candidates, and where no other row can be nearer."""
    bounds, rows, cutoff = candidates
    short = ~(bounds[:, k - 1] < torch.inf)  # fewer than k candidates: any rows give a bound
    rows[short, :k] = torch.arange(k, device=rows.device)
    squared = torch.full(rows.shape, torch.inf, dtype=torch.float64, device=rows.device)
    squared[:, :k] = _distances_to(queries, reference, rows[:, :k])
    kth = squared[:, :k].amax(1, keepdim=True)
    row, column = (bounds[:, k:] <= kth).nonzero(as_tuple=True)  # the others are farther
    column += k
    squared[row, column] = _pair_distances(queries, reference, row, rows[row, column])
    squared, indices = by_distance(squared, rows)
    return squared[:, :k], indices[:, :k], (cutoff > kth[:, 0]) & ~short


def _search_again(
    queries: Rows, reference: Tensor | Rows, bound: Tensor, max_bytes: int
) -> tuple[Tensor, Tensor]:
    """The k nearest rows of queries whose candidates were not certain, and are `bound` away."""
    k = bound.shape[1]
    first, inverse = distinct_rows(reference)
    multiplicity = inverse.bincount()
    if multiplicity.max() <= MARGIN:
        return _search_in_float64(queries, reference, bound, max_bytes)
    # crowds of equal rows all tie: search the distinct ones
    distinct, k_distinct = Rows(reference, first), min(k, len(first))
    squared, groups, certain = _search(queries, distinct, k_distinct, max_bytes)
    redo = (~certain).nonzero()[:, 0]
    if len(redo):
        found = _search_in_float64(Rows(queries, redo), distinct, squared[redo], max_bytes)
        squared[redo], groups[redo] = found
    return _expand_groups(squared, groups, inverse, multiplicity, k)


def _distances_to(queries: Tensor, reference: Tensor | Rows, candidates: Tensor) -> Tensor:
    """Exact squared distances (m, c) of queries (m, d) to their candidates (m, c)."""
    rows = max(1, values_at_once(queries.device) // (candidates.shape[1] * queries.shape[1]))
    parts = [
        squared_distances(q[:, None], reference[c])
        for q, c in zip(queries.split(rows), candidates.split(rows), strict=True)
    ]
    return torch.cat(parts)


def by_distance(squared: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Rows by ascending distance, ties by the smaller index."""
    indices, order = indices.sort(1)
    squared, again = squared.gather(1, order).sort(dim=1, stable=True)
    return squared, indices.gather(1, again)


def _search_in_float64(
    queries: Tensor | Rows, reference: Tensor | Rows, bound: Tensor, max_bytes: int
) -> tuple[Tensor, Tensor]:
    """k nearest rows among those that may be no farther than the k-th found so far."""
    k, quarter, centre = bound.shape[1], max_bytes // 4, middle(reference)
    rows = max(1, min(len(reference), quarter // (16 * reference.shape[1]), 8192))
    tile = max(1, min(quarter // (16 * rows), 512))
    parts = [
        _search_tile_in_float64(
            queries[i : i + tile], reference, centre, bound[i : i + tile, -1], k, rows
        )
        for i in range(0, len(queries), tile)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _search_tile_in_float64(
    queries: Tensor, reference: Tensor | Rows, centre: Tensor, bound: Tensor, k: int, rows: int
) -> tuple[Tensor, Tensor]:
    q = centred(queries, centre, torch.float64)
    q_norm = q.norm(dim=1, keepdim=True)
    found = []
    for start in range(0, len(reference), rows):
        r = centred(reference[start : start + rows], centre, torch.float64)
        r_norm = r.norm(dim=1)
        approximate = torch.addmm(r_norm.square(), q, r.T, alpha=-2) + q_norm.square()
        error = gamma(q.shape[1] + 16, torch.float64) * (q_norm + r_norm).square()
        near = (~(approximate - error > bound[:, None])).nonzero()  # keeps NaN from overflow too
        row, column = near[:, 0], near[:, 1] + start
        found.append((row, column, _pair_distances(queries, reference, row, column)))
    row, column, squared = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = squared.argsort(stable=True)  # equal distances stay in order of the column
    order = order[row[order].argsort(stable=True)]
    counts = row.bincount(minlength=len(q))
    nearest = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=q.device)]
    return squared[nearest], column[nearest]


def _pair_distances(a: Tensor, b: Tensor | Rows, i: Tensor, j: Tensor) -> Tensor:
    """Exact squared distances of the pairs a[i], b[j]."""
    rows = max(1, values_at_once(a.device) // a.shape[1])
    parts = [
        squared_distances(a[p], b[q]) for p, q in zip(i.split(rows), j.split(rows), strict=True)
    ]
    return torch.cat(parts) if parts else a.new_empty(0, dtype=torch.float64)


def _sphere_tile(queries: Tensor, centres: Tensor, radii: Tensor, centre: Tensor) -> list[Tensor]:
    q, c = centred(queries, centre), centred(centres, centre)
    q_norm, c_norm = q.norm(dim=1, keepdim=True), c.norm(dim=1)
    squared = row_products(q, c).mul_(-2).add_(c_norm.square()).add_(q_norm.square())
    error = (q_norm + c_norm).square_().mul_(gamma(q.shape[1] + 34, q.dtype))
    error += 8 * q.shape[1] * torch.finfo(q.dtype).tiny
    return [_sides(queries, centres, radius, squared, error) for radius in radii]


def _sides(
    queries: Tensor, centres: Tensor, radii: Tensor, squared: Tensor, error: Tensor
) -> Tensor:
    """Signs of the gaps to spheres, exact where rounding may have changed them."""
    radii_squared = radii.square().float()
    gap = squared - radii_squared
    error = error + radii_squared * gamma(queries.shape[1] + 34, torch.float32)
    # NaN, of overflow, is beyond neither
    sides = (gap > error).view(torch.int8) - (gap < error.neg_()).view(torch.int8)
    i, j = (sides == 0).nonzero(as_tuple=True)
    exact = _pair_distances(queries, centres, i, j).sqrt() - radii[j]
    sides[i, j] = exact.sign().to(torch.int8)
    return sides


def _row_hashes(x: Tensor | Rows) -> Tensor:
    """A 64-bit hash of each row's bits; integer sums, so equal rows hash alike anywhere."""
    as_integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    size = x[:1].element_size()
    bits = torch.int64 if x.shape[1] * size % 8 == 0 else as_integers[size]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**63), 2**63 - 1, (x.shape[1],), generator=generator) | 1
    weights = weights.to(x.device)
    hashes = []
    for start in range(0, len(x), 2048):
        part = x[start : start + 2048].contiguous().view(bits).long()
        kept = weights[: part.shape[1]]
        hashes.append(part @ kept if x.device.type == "cpu" else (part * kept).sum(1))
    return torch.cat(hashes)


def _first_of_each(inverse: Tensor) -> Tensor:
    rows = torch.arange(len(inverse), device=inverse.device)
    count = int(inverse.max()) + 1
    return rows.new_full((count,), len(rows)).scatter_reduce_(0, inverse, rows, "amin")


def _expand_groups(
    squared: Tensor, groups: Tensor, inverse: Tensor, multiplicity: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """From the nearest sets of equal rows to the k nearest rows, ties by the smaller index."""
    members = inverse.argsort(stable=True)  # row numbers, set by set, ascending in each
    starts = multiplicity.cumsum(0) - multiplicity
    offset = torch.arange(k, device=groups.device)
    parts = []
    for d, g in zip(squared.split(1024), groups.split(1024), strict=True):
        exists = offset < multiplicity[g][:, :, None]  # (b, k_distinct, k)
        position = (starts[g][:, :, None] + offset).clamp(max=len(members) - 1)
        index = torch.where(exists, members[position], len(members)).flatten(1)
        distance = torch.where(exists, d[:, :, None], torch.inf).flatten(1)
        distance, index = by_distance(distance, index)
        parts.append((distance[:, :k], index[:, :k]))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
