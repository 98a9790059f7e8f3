import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novum.metrics.novelty.text import build_index, first_places, match
from novum.metrics.novelty.text import matching as module


def by_definition(train, text):
    """Length of the longest common passage from each position on: all pairs are compared."""
    table = np.zeros((len(text) + 1, len(train) + 1), int)
    for i in range(len(text) - 1, -1, -1):
        same = np.flatnonzero(train == text[i])
        table[i, same] = table[i + 1, same + 1] + 1
    return table[:-1].max(1)


def check(train, text, size=None):
    """Lengths and places, with shards of so many bytes."""
    index = build_index(train, size)
    found = match(index, text)
    assert found.length.tolist() == by_definition(train, text).tolist()
    starts = np.flatnonzero(found.length)
    places = first_places(index, text, starts, found.length[starts])
    whole = train.astype(">u2").tobytes()
    for i, place in zip(starts.tolist(), places.tolist(), strict=True):
        passage = text[i : i + found.length[i]].astype(">u2").tobytes()
        at = whole.find(passage)
        while at % 2:
            at = whole.find(passage, at + 1)
        assert 2 * place == at


symbols = st.integers(1, 4)
bytes_of_a_shard = st.sampled_from([None, 2, 14, 66, 130])


@given(
    st.data(),
    st.sampled_from([np.uint8, np.uint16]),
    symbols,
    st.sampled_from([((1,), 16), ((8, 2, 1), 0), ((64, 8, 1), 1)]),
    bytes_of_a_shard,
)
def test_lengths_are_those_of_all_pairs_compared(data, dtype, count, steps, size):
    alphabet = data.draw(
        st.lists(st.integers(0, np.iinfo(dtype).max), min_size=count, max_size=count)
    )
    text_of = st.lists(st.sampled_from(alphabet), min_size=1, max_size=60)
    train, own, copy = (np.array(data.draw(text_of), dtype) for _ in range(3))
    train = np.concatenate([train, copy, train])  # repeats
    text = np.concatenate([own, train[len(own) % len(train) :], own, copy])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("STRIDES", "REPEATING"), steps, strict=True):
            patch.setattr(module, name, value)
        check(train, text, size)


@pytest.mark.parametrize("symbol", [0, 7, 255])
@pytest.mark.parametrize("size", [None, 167, 72])
def test_one_symbol_over_and_over(symbol, size):
    train, text = np.full(500, symbol, np.uint8), np.full(700, symbol, np.uint8)
    found = match(build_index(train, size), text)
    assert found.length.tolist() == np.minimum(500, np.arange(700, 0, -1)).tolist()


@pytest.mark.parametrize("size", [None, 3000, 1000, 430])
def test_far_copies_among_chance(size):
    random = np.random.default_rng(0)
    train = random.integers(0, 4, 3000).astype(np.uint8)
    text = random.integers(0, 4, 2000).astype(np.uint8)
    text[100:900] = train[2000:2800]
    text[1000:1400] = train[2500:2900]  # the same source twice
    text[1900:] = train[:100]
    train[1500:1600] = train[2500:2600]  # and one passage in two places
    check(train, text, size)


def test_all_of_the_largest_vocabulary():
    train = np.arange(65536, dtype=np.uint16)[::-1][:4000]
    text = np.concatenate([train[100:300], train[:50], train[3900:]])
    check(train, text)
    check(train, text, 1142)  # bytes: seven shards


def test_blocks_make_no_difference(monkeypatch):
    random = np.random.default_rng(1)
    train, text = (random.integers(0, 3, 5000).astype(np.uint8) for _ in range(2))
    whole = match(build_index(train), text)
    monkeypatch.setattr(module, "BLOCK", 700)
    for a, b in zip(whole, match(build_index(train), text), strict=True):
        assert (a == b).all()


def test_passages_end_where_they_must():
    train = np.frombuffer(b"hello world", np.uint8)
    text = np.frombuffer(b"hellohello", np.uint8)
    ends = np.array([3] * 3 + [5] * 2 + [10] * 5)
    assert match(build_index(train), text, ends).length.tolist() == [3, 2, 1, 2, 1, 5, 4, 3, 2, 1]


def test_an_empty_text_has_no_matches():
    assert len(match(build_index(np.zeros(3, np.uint8)), np.zeros(0, np.uint8)).length) == 0


@pytest.mark.parametrize("tokens", [np.zeros((2, 2), np.uint8), np.zeros(3, np.int64)])
def test_other_tokens_are_refused(tokens):
    with pytest.raises(ValueError, match="one row of uint8 or uint16 is needed"):
        build_index(tokens)


def test_little_memory_makes_more_shards(free_memory):
    train = np.random.default_rng(0).integers(0, 3, 300_000).astype(np.uint8)
    text = train[131_000:131_200]  # across the end of a shard
    whole = build_index(train)
    free_memory(1_048_576)
    index = build_index(train)
    assert [len(shard) for shard in index.shards] == [131_072, 131_072, 37_856]
    assert len(whole.shards) == 1
    assert (match(index, text).length == match(whole, text).length).all()
    assert match(index, text).length[0] == 200


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="the text is empty"):
        build_index(np.zeros(0, np.uint8))
