"""Candidates for nearest neighbours: one product of rounded rows gives each pair a lower bound.

Rounding q and r to q' and r' shifts their product by at most |q - q'| |r| + |q'| |r - r'|
(Cauchy-Schwarz). That bound is itself a product of two short rows, so six columns beside the
features carry it, |r|^2 and a threshold t through the same matrix product, whose entries become

    (t - lower bound of |q - r|^2) / 2.

Where an entry is not positive the pair is at least sqrt(t) apart. In bfloat16 that costs a quarter
of a float32 product on a CPU that knows it; the same code screens in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core.precision import multiplies_bfloat16
from novum.core.products import row_products

COLUMNS = 6  # beside the features: two for the error, two for |r|^2, two for the threshold
MARGIN = 16  # candidates beyond 2 k, so that the certificate has a gap to find
ROWS = 4096  # of the reference at a time: their product with TILE queries stays in a CPU's cache
TILE = 2048
DEVICE_ROWS, DEVICE_TILE = 32768, 8192  # on a GPU, which a smaller product would not fill
SAMPLE = 2048  # reference rows that give the first threshold
GROUP = 16  # entries of a product that share one look at their largest
SMALLEST_PRODUCT = 8192  # multiplications: torch has another kernel for smaller ones
FAR = 2.0**60  # norms whose squares might overflow
_TINY = torch.finfo(torch.float32).tiny


class Rows:
    """Some rows of a table, copied only when they are read."""

    def __init__(self, table: "Tensor | Rows", kept: Tensor) -> None:
        self.table, self.kept = table, kept
        self.shape, self.device = (len(kept), table.shape[1]), table.device

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        return self.table[self.kept[index]]

    def part(self, index: slice) -> "Rows":
        """Some of these, still in the table."""
        return Rows(self, torch.arange(len(self), device=self.kept.device)[index])


class Candidates(NamedTuple):
    bounds: Tensor  # (m, c) float32, ascending lower bounds of squared distances; inf: none
    rows: Tensor  # (m, c) int64
    cutoff: Tensor  # (m,) float32: all other rows are at least this far, squared


class _Block(NamedTuple):
    """Centred rows with their six columns; what is known of each, float32."""

    rows: Tensor  # (n, d + 6)
    squares: Tensor  # (n,) |x|^2
    norms: Tensor  # (n,) at least |x|
    errors: Tensor  # (n,) at least |x - x'|


def screening_dtypes(device: torch.device) -> list[torch.dtype]:
    """Cheapest first. bfloat16 where the processor multiplies it with float32 sums."""
    return [torch.bfloat16, torch.float32] if multiplies_bfloat16(device) else [torch.float32]


def values_at_once(device: torch.device) -> int:
    """Numbers of an intermediate result: as many as stay in a CPU's cache, or fill a GPU."""
    return 2**20 if device.type == "cpu" else 2**26


def middle(x: Tensor | Rows, rows: int = 2048) -> Tensor:
    """A point near the mean, for small norms: results do not depend on it."""
    limit = torch.finfo(torch.float32).max
    mean = x[:: max(1, len(x) // rows)].double().mean(0).clamp(-limit, limit)
    return mean.float().double()  # the same point for rows of any float type


def centred(x: Tensor, centre: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    wide = torch.promote_types(x.dtype, dtype)
    return (x.to(wide) - centre.to(wide)).to(dtype)


def gamma(terms: int, dtype: torch.dtype) -> float:
    """Relative error bound of a sum of `terms` products in any order (Higham, 2002, eq. 3.5)."""
    unit = torch.finfo(dtype).eps / 2
    return terms * unit / (1 - terms * unit)


@contextmanager
def exact_sums() -> Iterator[None]:
    """Sums of bfloat16 products in float32 on CUDA, whatever the caller allows."""
    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = allowed


def find_candidates(
    queries: Tensor | Rows,
    reference: Tensor | Rows,
    k: int,
    *,
    dtype: torch.dtype,
    within: Tensor | None,
    max_bytes: int,
) -> Candidates:
    """Up to 2 k + MARGIN rows for each query, of those that may be among its k nearest.

    `within`: squared distances known to hold k rows; without, a sample gives a limit to start from.
    """
    (m, d), n, device = queries.shape, len(reference), reference.device
    count = 2 * k + MARGIN
    if n <= count:
        rows = torch.arange(n, device=device).repeat(m, 1)
        bounds = torch.full((m, n), -torch.inf, device=device)
        return Candidates(bounds, rows, -bounds[:, 0])
    centre = middle(reference)
    q = _query_block(queries, centre, dtype)
    on_cpu = device.type == "cpu"
    height = _block_height(d, n, max_bytes, ROWS if on_cpu else DEVICE_ROWS)
    tile = max(1, min(TILE if on_cpu else DEVICE_TILE, max_bytes // (4 * height)))
    if within is None:
        within = _sampled_limit(q, reference, centre, k, tile, max_bytes)
    found = Candidates(
        torch.full((m, count), torch.inf, device=device),
        torch.zeros(m, count, dtype=torch.int64, device=device),
        within.clone(),
    )
    r = _empty_block(height, d, dtype, device)
    product = torch.empty(tile, height, dtype=dtype, device=device)
    longest, worst = torch.zeros(2, device=device)
    for start in range(0, n, height):
        _fill_reference(r, reference[start : start + height], centre)
        longest = torch.maximum(longest, r.norms.amax())
        worst = torch.maximum(worst, r.errors.amax())
        level = _set_threshold(q, found.cutoff)
        gap = _gap(q, longest, worst, within)
        for i in range(0, m, tile):
            part = slice(i, min(i + tile, m))
            entries = row_products(q.rows[part], r.rows, out=product[: part.stop - i])
            mine = Candidates(*(x[part] for x in found))
            _merge(mine, *_positive(entries, level[part], count), start)
            _lower_cutoff(mine, within[part], gap[part], k, dtype)
    sane = q.norms < FAR / 8  # else float32 may have overflowed
    return found._replace(cutoff=found.cutoff.masked_fill(~sane, -torch.inf))


def _slack(rows: Tensor) -> float:
    """Largest loss to rounding in float32 sums and norms, relative to |q|^2 and to |r|^2.

    3 gamma would do on a CPU; eps^2 is for numbers kept in two pieces. Tensor cores cut sums off
    where a CPU rounds them, which loses up to twice as much (Fasi et al., 2021), and add products
    in groups aligned to the largest, so four times is allowed for.
    """
    d, dtype = rows.shape[1] - COLUMNS, rows.dtype
    cut_off = 1 if rows.device.type == "cpu" else 4
    return 4 * cut_off * gamma(d + 16, torch.float32) + torch.finfo(dtype).eps ** 2


def _base(q: _Block) -> Tensor:
    """The share of |q|^2 in a lower bound."""
    d = q.rows.shape[1] - COLUMNS
    return q.squares * (1 - _slack(q.rows)) - 8 * (d + 16) * _TINY


def _gap(q: _Block, longest: Tensor, worst: Tensor, limit: Tensor) -> Tensor:
    """Largest error of a lower bound below `limit` of the true squared distance."""
    slack = _slack(q.rows)
    rounding = 4 * (q.errors * longest + q.norms * worst)
    return rounding + 2 * slack * (2 * q.norms**2 + longest**2 + limit)


def _block_height(d: int, n: int, max_bytes: int, rows: int) -> int:
    """Reference rows at a time: whole groups, and no product too small for the fast kernel."""
    height = max(min(rows, n, max_bytes // (8 * d)), SMALLEST_PRODUCT // d, 1)
    return -(-height // GROUP) * GROUP


def _empty_block(n: int, d: int, dtype: torch.dtype, device: torch.device) -> _Block:
    rows = torch.zeros(n, d + COLUMNS, dtype=dtype, device=device)
    return _Block(rows, *torch.zeros(3, n, device=device))


def _query_block(queries: Tensor | Rows, centre: Tensor, dtype: torch.dtype) -> _Block:
    m, d = queries.shape
    q = _empty_block(m, d, dtype, centre.device)
    _fill(q, queries, centre)
    ones = torch.ones(m, device=centre.device)
    q.rows[:, d : d + 4] = torch.stack([q.errors, q.norms, ones, ones], 1)
    return q


def _fill_reference(r: _Block, rows: Tensor, centre: Tensor) -> None:
    n, d = rows.shape
    dtype = r.rows.dtype
    _fill(r, rows, centre)
    far = ~(r.squares < FAR**2)  # from all queries but those that are nearly as far themselves
    r.rows.masked_fill_(far[:, None], 0)  # indexing by a mask may wait for the device
    r.squares.masked_fill_(far, FAR**2 / 16)
    r.norms.masked_fill_(far, 0)
    r.errors.masked_fill_(far, 0)
    half = _pieces(r.squares * (-0.5 * (1 - _slack(r.rows))), dtype)
    ones = torch.ones_like(r.norms)
    r.rows[:, d:] = torch.stack([r.norms, r.errors, *half, ones, ones], 1)
    if n < len(r.rows):
        r.rows[n:] = 0
        r.norms[n:], r.errors[n:] = 0, 0
        r.rows[n:, d + 2] = -torch.finfo(dtype).max / 1.5  # past the end: bounds overflow


def _fill(block: _Block, rows: Tensor | Rows, centre: Tensor) -> None:
    """Writes the rounded features and what is known of them."""
    d = len(centre)
    step = max(1, values_at_once(centre.device) // d)
    for i in range(0, len(rows), step):
        part = slice(i, min(i + step, len(rows)))
        x = centred(rows[part].to(centre.device), centre)
        rounded = block.rows[part, :d].copy_(x)
        block.squares[part] = x.square().sum(1)
        block.errors[part] = x.sub_(rounded).square_().sum(1)
    upwards = 1 + 2 * torch.finfo(block.rows.dtype).eps + gamma(d + 16, torch.float32)
    least = d * _TINY**0.5  # what underflow hides
    block.norms[:] = block.squares.sqrt() * upwards + least
    block.errors.sqrt_().mul_(upwards).add_(least)


def _pieces(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x as a sum of two numbers of a lower precision."""
    high = x.to(dtype).float()
    return high, (x - high).to(dtype).float()


def _set_threshold(q: _Block, threshold: Tensor) -> Tensor:
    """Writes the threshold's columns; what they amount to, a little more than asked."""
    base, slack = _base(q), _slack(q.rows)
    half = (threshold - base) / 2
    high, low = _pieces(half + 2 * slack * half.abs(), q.rows.dtype)
    q.rows[:, -2], q.rows[:, -1] = high, low
    return base + 2 * (high + low) - 2 * slack * (high + low).abs()


def _lower_bounds(entries: Tensor, level: Tensor) -> Tensor:
    """Error of squared distances, from entries that were rounded once."""
    eps, entries = torch.finfo(entries.dtype).eps, entries.float()
    return level - 2 * (entries + eps * entries.abs())


def _sampled_limit(
    q: _Block, reference: Tensor | Rows, centre: Tensor, k: int, tile: int, max_bytes: int
) -> Tensor:
    """Squared distance within which each query has k rows of a sample, or a few more."""
    (n, d), count, dtype = reference.shape, 2 * k + MARGIN, q.rows.dtype
    size = max(count, min(n, SAMPLE, max_bytes // (8 * d)))
    r = _empty_block(-(-size // GROUP) * GROUP, d, dtype, q.rows.device)
    _fill_reference(r, reference[:: n // size][:size], centre)
    base = _base(q)
    level = _set_threshold(q, base + r.squares[:size].median())
    above = 4 * _slack(r.rows) * (level - base).abs()  # no row of the sample may be missed
    limits = []
    for rows, at in zip(q.rows.split(tile), (level + above).split(tile), strict=True):
        entries = (rows @ r.rows.T).topk(count).values.float()[:, [k - 1, count - 1]]
        limits.append(at[:, None] - 2 * entries + 4 * torch.finfo(dtype).eps * entries.abs())
    kth, last = torch.cat(limits).T
    return torch.minimum(kth + _gap(q, r.norms.amax(), r.errors.amax(), kth), last)


def _merge(found: Candidates, bounds: Tensor, rows: Tensor, start: int) -> None:
    """Takes in what the reference rows from `start` on have to offer."""
    bounds = torch.cat([found.bounds, bounds], 1)
    rows = torch.cat([found.rows, rows + start], 1)
    found.bounds[:], kept = bounds.topk(found.rows.shape[1], largest=False)
    found.rows[:] = rows.gather(1, kept)


def _lower_cutoff(
    found: Candidates, limit: Tensor, gap: Tensor, k: int, dtype: torch.dtype
) -> None:
    """Rows that found no place are as far as the last that did; and k are nearer than `kth`."""
    kth = found.bounds[:, k - 1]
    kth = kth + gap + 2 * torch.finfo(dtype).eps * (limit - kth).abs()
    lowest = torch.minimum(found.bounds[:, -1], kth)
    found.cutoff[:] = torch.minimum(found.cutoff, lowest)


def _positive(entries: Tensor, level: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Lower bounds and columns, each (m, p), of at least the `count` largest positive entries."""
    m, width = entries.shape
    stride = width // GROUP
    if entries.device.type != "cpu":  # where only the device knows how many are positive
        largest, columns = entries.topk(min(count, width))
        return _lower_bounds(largest, level[:, None]), columns
    # above zero, bfloat16 is in the order of its bits, and integers compare faster
    ordered = entries.view(torch.int16) if entries.dtype == torch.bfloat16 else entries
    hit = ordered.view(m, GROUP, stride).amax(1) > 0
    if int(hit.sum()) > hit.numel() // 4:
        largest, columns = entries.topk(min(count, width))
        return _lower_bounds(largest, level[:, None]), columns
    row, group = hit.nonzero(as_tuple=True)
    columns = group[:, None] + torch.arange(0, width, stride, device=group.device)
    places = (columns + width * row[:, None]).view(-1)
    entries = entries.view(-1).index_select(0, places).view_as(columns)
    hit, member = (entries > 0).nonzero(as_tuple=True)
    row = row[hit]
    bounds = _lower_bounds(entries[hit, member], level[row])
    return padded(row, m, bounds, torch.inf), padded(row, m, columns[hit, member], 0)


def padded(row: Tensor, m: int, values: Tensor, padding: float) -> Tensor:
    """Values that belong to ascending rows as an (m, p) table."""
    counts = row.bincount(minlength=m)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    table = values.new_full((m, int(counts.max())), padding)
    table[row, place] = values
    return table
