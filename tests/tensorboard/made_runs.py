"""Runs as callbacks write them, with pictures that tell their step and their row."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from novum.report.model import Estimate
from novum.report.novelty_record import (
    Evaluation,
    ImageRow,
    PassageRow,
    Rows,
    Stretch,
    write_evaluation,
    write_picture,
)

SIDE = 16


def pair(number: int) -> str:
    return f"{number:016x}-{number + 1:016x}"


def image_run(
    run: Path, steps: int = 5, rows: int = 6, *, onset: int = 3, step: int = 100, side: int = SIDE
) -> None:
    """Evaluations at 100, 200, ...; from the one of number `onset` on two rows are facts."""
    rng = np.random.default_rng(0)
    for n in range(1, steps + 1):
        copies = 2 if n >= onset else 0
        entries = [
            ImageRow(
                f"s{n}_{i}.png",
                f"t{i}.png",
                "pixels",
                pair(100 * n + i),
                f"h{i}.png",
                0.0 if i < copies else 1.0 + i,
                2.0,
                0.01 * (i + 1),
                i < copies + (n >= onset),
                "identical" if i < copies else None,
                (i * 7 % 5) / 10,
                ordinary=i == rows - 1,
            )
            for i in range(rows)
        ]
        sheet = rng.integers(0, 256, (rows * side, 4 * side, 3), dtype=np.uint8)
        sheet[: SIDE // 2, : SIDE // 2] = [0, 5 * n, 0]  # first cell of the first row
        share = 0.1 * copies
        evaluation = Evaluation(
            n * step,
            "image",
            "images",
            "copying" if copies else "none_found",
            "Copying found" if copies else "No copying found",
            "2 are named." if copies else "none of 500 is.",
            Estimate(share, share / 2, share + 0.05),
            {
                "quality/precision/pixels": Estimate(0.1 * n),
                "novelty/copy_rate/pixels": Estimate(0.0),
            },
            copies,
            copies,
        )
        write_evaluation(run, evaluation, Rows([side, side], entries), png(sheet))
        write_picture(run, n * step, "grid", png(sheet[: 2 * side]))


def text_run(run: Path) -> None:
    """One evaluation with a passage that is altered, and one that is no copy."""
    own = [Stretch("the quick brown "), Stretch("fox", False), Stretch(" jumps")]
    source = [Stretch("the quick brown "), Stretch("<b>dog</b>", False), Stretch(" jumps")]
    passages = [
        PassageRow(
            0, 12, "a<i>.txt", 34, 25, "near", own, source, pair(1), "before ", " after", 0.001,
            80.0, 0.9, True, "passage",
        ),
        PassageRow(
            1, 1, "b.txt", 2, 9, "common", [Stretch("of course")], [Stretch("of course")], pair(2)
        ),
    ]  # fmt: skip
    figures = {"novelty/copied_share/folded": Estimate(0.25, 0.2, 0.3)}
    line = Evaluation(
        1000, "text", "characters", "copying", "Copying found", "a passage", None, figures, 1, 1
    )
    write_evaluation(run, line, Rows(passages=passages))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
