import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from novum.metrics.novelty.text.origins import Origins, OriginsWriter

steps = st.lists(st.sampled_from([0, 1, 1, 1, 2, 3, 254, 255, 256, 700, 100_000]), max_size=300)


def check(found: Origins, places: np.ndarray) -> None:
    assert len(found) == len(places)
    assert found[np.arange(len(places))].tolist() == places.tolist()
    wanted = np.concatenate([places, places + 1, places - 1, [0, 10**9]])
    assert found.find(wanted).tolist() == np.searchsorted(places, wanted).tolist()


@given(steps)
def test_places_and_the_way_to_them(steps):
    places = np.cumsum(np.array(steps, np.int64))
    check(Origins.of(places), places)


def test_what_is_written_in_blocks_is_read(tmp_path):
    random = np.random.default_rng(0)
    places = np.cumsum(random.choice([0, 1, 2, 300, 100_000], 1000, p=[0.1, 0.7, 0.1, 0.05, 0.05]))
    writer = OriginsWriter(tmp_path, "folded.train")
    for block in np.split(places, [0, 1, 63, 64, 65, 500, 500, 640]):
        writer.add(block)
    check(Origins.mapped(tmp_path, "folded.train"), places)
