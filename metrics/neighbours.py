"""The one exact k-nearest-neighbour engine that every metric and callback uses.

Candidates come from float32 matrix products on centred rows, and are re-ranked by direct
difference in float64. A rounding bound certifies each row: whatever was not a candidate is provably
farther than the k-th neighbour. Rows that fail it are searched again in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width

MARGIN = 8  # candidates beyond k, so that the certificate has a gap to find
MAX_BYTES = 512 * 2**20


class Neighbours(NamedTuple):
    distances: Tensor  # (m, k) float64, ascending
    indices: Tensor  # (m, k) int64, ties by the smaller index


def knn(queries: Tensor, reference: Tensor, k: int, *, max_bytes: int = MAX_BYTES) -> Neighbours:
    """The k nearest reference rows of each query, exact, in about `max_bytes` of working memory.

    Takes floats or uint8 (n, d) or (n, c, h, w). The result does not depend on the block sizes.
    """
    queries, reference = _rows(queries, "queries"), _rows(reference, "reference")
    check_same_width(queries=queries, reference=reference)
    if not 1 <= k <= len(reference):
        raise ValueError(f"k = {k} neighbours asked of {len(reference)} reference rows")
    if queries.device != reference.device:
        queries = queries.to(reference.device)
    with _full_precision(queries.device):
        squared, indices, certain = _search_in_float32(queries, reference, k, max_bytes)
        redo = (~certain).nonzero()[:, 0]
        if len(redo):
            found = _search_again(queries[redo], reference, squared[redo], max_bytes)
            squared[redo], indices[redo] = found
    return Neighbours(squared.sqrt(), indices)


def kth_neighbour_radii(reference: Tensor, k: int, *, max_bytes: int = MAX_BYTES) -> Tensor:
    """Distance of each row to its k-th nearest other row, (n,) float64."""
    if len(reference) <= k:
        raise ValueError(f"{len(reference)} samples have no {k}-th neighbour: {k + 1} are needed")
    found = knn(reference, reference, k + 1, max_bytes=max_bytes)
    return found.distances[:, k]  # the first is the row itself


def sphere_sides(
    queries: Tensor, centres: Tensor, radii: Tensor, *, max_bytes: int = MAX_BYTES
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Where each query lies of each ball, exactly: blocks of sign(|q - c| - radius) as int8.

    Yields (query rows, centre rows, signs): -1 inside, 0 on the sphere, 1 outside.
    """
    centre = _middle(centres)
    tile = max(1, int((max_bytes / 24) ** 0.5))  # about six float32 tiles at a time
    tile = min(tile, max(1, max_bytes // (16 * queries.shape[1])), 4096)
    for i in range(0, len(queries), tile):
        rows = slice(i, min(i + tile, len(queries)))
        for j in range(0, len(centres), tile):
            columns = slice(j, min(j + tile, len(centres)))
            with _full_precision(queries.device):
                sides = _sphere_tile(queries[rows], centres[columns], radii[columns], centre)
            yield rows, columns, sides


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 over the last axis in float64, by halving: the same bits in any block or device."""
    terms = (a.double() - b.double()).square_()
    while (width := terms.shape[-1]) > 1:
        half = (width + 1) // 2
        terms[..., : width - half] += terms[..., half:]
        terms = terms[..., :half]
    return terms[..., 0]


def distinct_rows(x: Tensor) -> tuple[Tensor, Tensor]:
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


def _rows(x: Tensor, name: str) -> Tensor:
    if isinstance(x, Tensor) and x.ndim > 2:
        x = x.flatten(1)
    return check_features(x, name)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Real float32 products, whatever the caller allows (TF32, bfloat16, autocast)."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)


def _middle(x: Tensor, rows: int = 2048) -> Tensor:
    """A point near the mean, for small norms: results do not depend on it."""
    return x[:: max(1, len(x) // rows)].double().mean(0)


def _centred(x: Tensor, centre: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    wide = torch.promote_types(x.dtype, dtype)
    return (x.to(wide) - centre.to(wide)).to(dtype)


def _gamma(terms: int, dtype: torch.dtype) -> float:
    """Relative error bound of a sum of `terms` products in any order (Higham, 2002, eq. 3.5)."""
    unit = torch.finfo(dtype).eps / 2
    return terms * unit / (1 - terms * unit)


def _search_in_float32(
    queries: Tensor, reference: Tensor, k: int, max_bytes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances and indices of the k nearest candidates, and which rows are certain."""
    d, quarter = reference.shape[1], max_bytes // 4
    centre = _middle(reference)
    block = max(1, quarter // (8 * d + 16 * (k + MARGIN)))
    parts = [_search_block(q, reference, centre, k, quarter) for q in queries.split(block)]
    squared, indices, certain = (torch.cat(part) for part in zip(*parts, strict=True))
    return squared, indices, certain


def _search_block(
    queries: Tensor, reference: Tensor, centre: Tensor, k: int, quarter: int
) -> tuple[Tensor, Tensor, Tensor]:
    n, d = reference.shape
    q = _centred(queries, centre)
    scores, candidates, largest_norm = _candidates(q, reference, centre, k + MARGIN, quarter)
    squared = torch.full(candidates.shape, torch.inf, dtype=torch.float64, device=q.device)
    squared[:, :k] = _distances_to(queries, reference, candidates[:, :k])
    kth = squared[:, :k].amax(1, keepdim=True)
    # A row farther than 2|q| + 2 d_k from the centre is no neighbour; the others' scores are this
    # sure: products, norms and centring each add a share of (|q| + |r|)^2.
    q_norm = q.double().norm(dim=1, keepdim=True)
    reach = q_norm + (2 * q_norm + 2 * kth.sqrt()).clamp(max=largest_norm)
    finfo = torch.finfo(torch.float32)
    error = _gamma(d + 16, torch.float32) * reach.square() + 8 * d * finfo.tiny
    farther = (scores + q_norm.square() - error > kth) & (reach.square() < finfo.max / 4)
    row, column = (~farther[:, k:]).nonzero(as_tuple=True)  # the others need no exact distance
    column += k
    squared[row, column] = _pair_distances(queries, reference, row, candidates[row, column])
    squared, indices = _sorted(squared, candidates)
    certain = farther[:, -1] if candidates.shape[1] < n else torch.ones_like(farther[:, -1])
    return squared[:, :k], indices[:, :k], certain


def _search_again(
    queries: Tensor, reference: Tensor, bound: Tensor, max_bytes: int
) -> tuple[Tensor, Tensor]:
    """The k nearest rows of queries whose candidates were not certain, and are `bound` away."""
    k = bound.shape[1]
    first, inverse = distinct_rows(reference)
    multiplicity = inverse.bincount()
    if multiplicity.max() <= MARGIN:
        return _search_in_float64(queries, reference, bound, max_bytes)
    # crowds of equal rows all tie: search the distinct ones
    distinct, k_distinct = reference[first], min(k, len(first))
    squared, groups, certain = _search_in_float32(queries, distinct, k_distinct, max_bytes)
    redo = (~certain).nonzero()[:, 0]
    if len(redo):
        found = _search_in_float64(queries[redo], distinct, squared[redo], max_bytes)
        squared[redo], groups[redo] = found
    return _expand_groups(squared, groups, inverse, multiplicity, k)


def _candidates(
    q: Tensor, reference: Tensor, centre: Tensor, count: int, quarter: int
) -> tuple[Tensor, Tensor, float]:
    """The smallest |r|^2 - 2 q.r of each row of q in float32, and the largest |r|."""
    n, d = reference.shape
    rows = max(count, min(n, quarter // (8 * d), 8192))
    tile = max(1, quarter // (8 * rows))
    scores = q.new_empty(len(q), 0)
    indices = torch.empty(len(q), 0, dtype=torch.int64, device=q.device)
    largest = 0.0
    for start in range(0, n, rows):
        r = _centred(reference[start : start + rows], centre)
        norms = r.square().sum(1)
        largest = max(largest, float(norms.max()) ** 0.5)
        near = min(count, len(r))
        found = [
            torch.addmm(norms, part, r.T, alpha=-2).topk(near, largest=False)
            for part in q.split(tile)
        ]
        scores = torch.cat([scores, torch.cat([f.values for f in found])], 1)
        indices = torch.cat([indices, torch.cat([f.indices for f in found]) + start], 1)
        scores, kept = scores.topk(min(count, scores.shape[1]), largest=False)
        indices = indices.gather(1, kept)
    return scores, indices, largest * (1 + 1e-3)


def _distances_to(queries: Tensor, reference: Tensor, candidates: Tensor) -> Tensor:
    """Exact squared distances (m, c) of queries (m, d) to their candidates (m, c)."""
    rows = max(1, 2**20 // (candidates.shape[1] * queries.shape[1]))  # stays in the CPU's cache
    parts = [
        squared_distances(q[:, None], reference[c])
        for q, c in zip(queries.split(rows), candidates.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _sorted(squared: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Rows by ascending distance, ties by the smaller index."""
    indices, order = indices.sort(1)
    squared, by_distance = squared.gather(1, order).sort(dim=1, stable=True)
    return squared, indices.gather(1, by_distance)


def _search_in_float64(
    queries: Tensor, reference: Tensor, bound: Tensor, max_bytes: int
) -> tuple[Tensor, Tensor]:
    """k nearest rows among all that may be no farther than the k-th found so far."""
    k, quarter, centre = bound.shape[1], max_bytes // 4, _middle(reference)
    rows = max(1, min(len(reference), quarter // (16 * reference.shape[1]), 8192))
    tile = max(1, min(quarter // (16 * rows), 512))
    parts = [
        _search_tile_in_float64(q, reference, centre, b[:, -1], k, rows)
        for q, b in zip(queries.split(tile), bound.split(tile), strict=True)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _search_tile_in_float64(
    queries: Tensor, reference: Tensor, centre: Tensor, bound: Tensor, k: int, rows: int
) -> tuple[Tensor, Tensor]:
    q = _centred(queries, centre, torch.float64)
    q_norm = q.norm(dim=1, keepdim=True)
    found = []
    for start in range(0, len(reference), rows):
        r = _centred(reference[start : start + rows], centre, torch.float64)
        r_norm = r.norm(dim=1)
        approximate = torch.addmm(r_norm.square(), q, r.T, alpha=-2) + q_norm.square()
        error = _gamma(q.shape[1] + 16, torch.float64) * (q_norm + r_norm).square()
        near = (~(approximate - error > bound[:, None])).nonzero()  # keeps NaN from overflow too
        row, column = near[:, 0], near[:, 1] + start
        found.append((row, column, _pair_distances(queries, reference, row, column)))
    row, column, squared = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = squared.argsort(stable=True)  # equal distances stay in order of the column
    order = order[row[order].argsort(stable=True)]
    counts = row.bincount(minlength=len(q))
    nearest = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=q.device)]
    return squared[nearest], column[nearest]


def _pair_distances(a: Tensor, b: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Exact squared distances of the pairs a[i], b[j]."""
    rows = max(1, 2**20 // a.shape[1])
    parts = [
        squared_distances(a[p], b[q]) for p, q in zip(i.split(rows), j.split(rows), strict=True)
    ]
    return torch.cat(parts) if parts else a.new_empty(0, dtype=torch.float64)


def _sphere_tile(queries: Tensor, centres: Tensor, radii: Tensor, centre: Tensor) -> Tensor:
    q, c = _centred(queries, centre), _centred(centres, centre)
    q_norm, c_norm = q.norm(dim=1, keepdim=True), c.norm(dim=1)
    radii_squared = radii.square().float()
    gap = torch.addmm(c_norm.square() - radii_squared, q, c.T, alpha=-2) + q_norm.square()
    error = (q_norm + c_norm).square_().add_(radii_squared).mul_(_gamma(q.shape[1] + 32, q.dtype))
    error += 8 * q.shape[1] * torch.finfo(q.dtype).tiny
    sides = gap.sign().to(torch.int8)
    i, j = (~(gap.abs() > error)).nonzero(as_tuple=True)
    exact = _pair_distances(queries, centres, i, j).sqrt() - radii[j]
    sides[i, j] = exact.sign().to(torch.int8)
    return sides


def _row_hashes(x: Tensor) -> Tensor:
    """A 64-bit hash of each row's bits; integer sums, so equal rows hash alike anywhere."""
    as_integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    whole = x.shape[1] * x.element_size() % 8 == 0
    bits = torch.int64 if whole else as_integers[x.element_size()]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**63), 2**63 - 1, (x.shape[1],), generator=generator) | 1
    weights = weights.to(x.device)
    hashes = []
    for part in x.split(2048):
        part = part.contiguous().view(bits).long()
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
        distance, index = _sorted(distance, index)
        parts.append((distance[:, :k], index[:, :k]))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
