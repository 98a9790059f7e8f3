import numpy as np
import pytest

from novum.datamodules.streaming.shuffle import Shuffle

COUNTS = np.array([5, 0, 12, 1, 7, 30, 2])


def rows(shuffle: Shuffle, positions: range) -> list[tuple[int, int]]:
    """Block and row of it at each position."""
    found = []
    for position in positions:
        epoch, lane, row = shuffle.place(position)
        window = shuffle.window(epoch, lane, row)
        assert window.first <= row < window.last <= shuffle.rows(lane)
        assert window.last - window.first <= shuffle.width
        row = window.first + shuffle.mixed(window)[row - window.first]
        blocks, offset = shuffle.enter(epoch, shuffle.start(lane) + row)
        found.append((int(blocks[0]), offset))
    return found


@pytest.mark.parametrize("lanes", [1, 2, 4, 64])
@pytest.mark.parametrize("buffer", [1, 10, 1000])
def test_an_epoch_holds_every_row_once(lanes, buffer):
    shuffle = Shuffle(COUNTS, lanes, buffer, seed=3)
    every = [(block, row) for block, count in enumerate(COUNTS) for row in range(count)]
    first, second = rows(shuffle, range(57)), rows(shuffle, range(57, 114))
    assert sorted(first) == sorted(second) == every and first != second
    assert rows(Shuffle(COUNTS, lanes, buffer, seed=3), range(40, 70)) == (first + second)[40:70]
    assert rows(Shuffle(COUNTS, lanes, buffer, seed=-4), range(57)) != first


def test_the_order_is_fixed():
    """What a release gave, the next one gives too: else a resumed run would see other data."""
    assert rows(Shuffle(COUNTS, 4, 16, seed=0), range(6)) == FIXED


FIXED = [(3, 0), (0, 0), (5, 2), (5, 17), (2, 0), (0, 1)]
