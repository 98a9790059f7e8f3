"""Text as a picture."""

import numpy as np

from novum.report.passages import _places, passage_picture, shades


def test_lines_break_at_newlines_and_at_the_edge():
    assert _places("ab\ncde", 2) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    assert [row for row, _ in _places("abcd", 2)] == [0, 0, 1, 1]
    assert _places("a\nb", 9) == [(0, 0), (0, 1), (1, 0)]


def test_each_character_stands_on_its_colour():
    colours = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    pixels = np.asarray(passage_picture("  ", colours))
    assert (pixels == [255, 0, 0]).all(-1).any() and (pixels == [0, 0, 255]).all(-1).any()
    titled = passage_picture("  ", colours, "one\ntwo")
    assert titled.height > len(pixels)


def test_shades_go_from_low_over_white_to_high():
    found = shades([-2, -1, 0, 0.5, 1], (0, 0, 255), (255, 0, 0))
    assert found.tolist() == [
        [0, 0, 255], [0, 0, 255], [255, 255, 255], [255, 128, 128], [255, 0, 0]
    ]  # fmt: skip
