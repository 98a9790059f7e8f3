"""Halves of training data: complementary, dealt by what hangs together, the same for a seed."""

import numpy as np
import pytest
import torch
from PIL import Image

from novum.core.errors import InputError
from novum.datamodules import ImageDataModule, TextDataModule
from novum.datamodules.halves import deal_units

HALVES = ("a", "b")


def digits(half, **settings):
    return ImageDataModule("digits", image_size=8, subset=101, half=half, **settings)


def sides(data):
    return data.train_reference(), data.heldout_reference()


@pytest.mark.parametrize("n", [2, 3, 100, 101])
def test_halves_of_units_are_of_one_size(n):
    dealt = deal_units(np.ones(n), np.random.default_rng(0))
    assert abs(2 * dealt.sum() - n) <= 1


def test_units_of_any_size_are_dealt_in_pairs():
    sizes = np.array([1000, 990, 10, 9, 5, 5, 1])
    for seed in range(20):
        dealt = deal_units(sizes, np.random.default_rng(seed))
        assert dealt[0] != dealt[1] and dealt[2] != dealt[3] and dealt[4] != dealt[5]
    firsts = [deal_units(sizes, np.random.default_rng(seed))[[0, 6]] for seed in range(200)]
    assert np.abs(np.mean(firsts, 0) - 0.5).max() < 0.12  # a coin each, the odd one too


def test_each_twin_holds_out_what_the_other_learns():
    (a, not_a), (b, not_b) = (sides(digits(half)) for half in HALVES)
    assert a.fingerprint == not_b.fingerprint and b.fingerprint == not_a.fingerprint
    assert sorted([*a.ids, *b.ids]) == sorted(digits(None).train_reference().ids)
    assert {len(a), len(b)} == {50, 51}
    assert torch.equal(a.labels, not_b.labels)
    again = digits("a").train_reference()
    assert again.fingerprint == a.fingerprint
    assert digits("a", split_seed=1).train_reference().fingerprint != a.fingerprint
    dealt = digits("a").dealt()
    assert dealt.item_in_a.tolist() == [True] * len(a) + [False] * len(b)
    assert np.array_equal(dealt.unit, digits("b").dealt().unit)


@pytest.fixture
def folder(tmp_path):
    """40 images in 10 groups, of which images 30 to 39 equal images 0 to 9."""
    for i in range(40):
        pixels = np.random.default_rng(i % 30).integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{i % 10}_{i:02}.png")
    return tmp_path


def of_folder(folder, half="a", **settings):
    return ImageDataModule(
        "folder", str(folder), image_size=8, heldout_fraction=0.05, half=half, **settings
    )


def test_equal_images_are_in_one_half(folder):
    data = of_folder(folder)
    a, b = sides(data)
    pixels = [{image.numpy().tobytes() for image in side[:]} for side in (a, b)]
    assert not pixels[0] & pixels[1]
    dealt = data.dealt()
    assert dealt.kind == "images" and dealt.together > 0
    assert len(dealt.sizes) + dealt.together == len(a) + len(b)


def test_groups_are_in_one_half(folder):
    data = of_folder(folder, groups="^p\\d")
    a, b = ({str(name)[:2] for name in side.ids} for side in sides(data))
    assert not a & b and len(a | b) == len(data.dealt().sizes)
    assert data.dealt().kind == "groups"
    data.group_numbers()  # refuses groups on both sides


def test_groups_with_an_image_in_common_are_one_unit(folder):
    shared = Image.open(folder / "p0_00.png")
    shared.save(folder / "p1_99.png")
    data = of_folder(folder, groups="^p\\d")
    assert len(data.dealt().sizes) == 8  # of ten one is held out of both, and two are joined
    in_a = {str(name)[:2] for name in data.train_reference().ids}
    assert ("p0" in in_a) == ("p1" in in_a)


def test_images_that_are_read_one_by_one(folder):
    lazy = of_folder(folder, memory_budget_gb=0)
    assert lazy.train_reference().ids == of_folder(folder).train_reference().ids
    assert lazy.dealt().unit.tolist() == of_folder(folder).dealt().unit.tolist()


@pytest.mark.parametrize("half", HALVES)
def test_bad_images_are_left_out(folder, half):
    (folder / "p3_03.png").write_bytes((folder / "p3_03.png").read_bytes()[:60])
    data = of_folder(folder, half, on_bad_image="skip")
    with pytest.warns(UserWarning):
        found = sum(map(len, sides(data)))
    assert len(data.dealt().unit) == found == 37  # of 40, 2 held out of both


def test_wrong_use():
    with pytest.raises(InputError, match="half is c: choose"):
        digits("c")
    with pytest.raises(InputError, match="not for streaming"):
        ImageDataModule("huggingface", "x", streaming=True, half="a")
    with pytest.raises(InputError, match="takes two"):
        ImageDataModule("digits", subset=1, half="a").setup()
    with pytest.raises(InputError, match="half is null"):
        digits(None).dealt()
    with pytest.raises(InputError, match="half is c: choose"):
        TextDataModule("stdlib", half="c")


def text_of(folder, files, half, **settings):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return TextDataModule("files", str(folder), half=half, **settings)


@pytest.fixture
def books(tmp_path):
    def text(seed):
        return "".join(np.random.default_rng(seed).choice(list("abcd \n"), 300))

    files = {f"{i:02}.txt": text(i) for i in range(30)} | {"again.txt": text(3)}
    return lambda half, **settings: text_of(tmp_path / "books", files, half, **settings)


def test_documents_are_dealt_whole(books):
    a, b = books("a"), books("b")
    assert a.train.fingerprint == b.heldout.fingerprint
    assert a.heldout.fingerprint == b.train.fingerprint
    assert len(a.train) + len(b.train) == len(books(None).train)
    names = [{name for name, *_ in side.documents()} for side in (a.train, b.train)]
    assert not names[0] & names[1]
    found = a.dealt()
    assert found.deal.kind == "documents"
    for half, data in (("a", a), ("b", b)):
        assert [p.name for p in data.train.pieces] == [
            p.name for span in found.spans[half] for p in a.corpus.source([span]).pieces
        ]
        assert len(found.units(half)) == len(data.train.pieces)
    twice = {name for name, *_ in a.train.documents()} & {"03.txt", "again.txt"}
    assert len(twice) != 1  # equal documents are in one half, unless one is held out


def test_few_documents_are_cut_into_blocks(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("abcd \n"), 20_000))
    a, b = (text_of(tmp_path / "text", {"one.txt": text}, half) for half in HALVES)
    assert a.dealt().deal.kind == "blocks of 256 tokens"
    assert abs(len(a.train) - len(b.train)) <= 300
    pieces = [(p.offset, side) for side in (a.train, b.train) for p in side.pieces]
    assert len({offset for offset, _ in pieces}) == len(pieces) == 70
    offset = a.train.pieces[3].offset
    assert text[offset : offset + 50] == a.train.text(a.train.pieces[3].start)[:50]


def test_both_halves_have_one_vocabulary(books):
    a, b = (books(half, vocabulary="bpe", bpe_tokens=260) for half in HALVES)
    assert a.merges == b.merges == books(None, vocabulary="bpe", bpe_tokens=260).merges
    assert len(a.dealt().units("a")) == len(a.train.pieces)
    assert a.train.as_characters().fingerprint == books("a").train.fingerprint
    c, d = (books(half) for half in HALVES)
    assert c.alphabet == d.alphabet


def test_one_short_document_cannot_be_dealt(tmp_path):
    with pytest.raises(InputError, match="takes two"):
        text_of(tmp_path / "text", {"one.txt": "ab" * 60}, "a")
