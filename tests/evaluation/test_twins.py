"""Twins that copy nothing raise no alarm; of a pair that copies the items are named."""

import json
import random

import numpy as np
import pytest
import torch

from novum.core.run_record import write_record
from novum.datamodules import ImageDataModule, TextDataModule
from novum.evaluation import twin_images, twin_texts
from novum.evaluation.twin_files import compare_twins
from novum.report.model import Finding

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(twin_images, "FEWEST_SAMPLES", 100)
    monkeypatch.setattr(twin_images, "CONTROL_ROWS", 100)
    monkeypatch.setattr(twin_texts, "NUM_TEXTS", 20)


class Drawing:
    """A generator that draws from some images, and knows some of them better by a little."""

    images_seen, num_classes, item_loss = 100, 0, "loss of a drawing"

    def __init__(self, images, learned=(), by=0.0):
        self.images, self.by = images, by
        self.learned = {image.numpy().tobytes() for image in learned}

    def to(self, device):
        return self

    def sample(self, n, *, seed=None, labels=None):
        rng = torch.Generator().manual_seed(seed or 0)
        return self.images[torch.randint(len(self.images), (n,), generator=rng)]

    def item_losses(self, items, *, labels=None):
        noise = [np.random.default_rng([*x.numpy().ravel()[:20], len(self.learned)]).normal()
                 for x in items]  # fmt: skip
        known = [self.by * (x.numpy().tobytes() in self.learned) for x in items]
        return torch.tensor(noise) - torch.tensor(known)


def folder_of(tmp_path):
    for half in "ab":
        (tmp_path / half).mkdir()
        write_record(tmp_path / half, {"id": f"run {half}"})
    return tmp_path


def images(half="a"):
    return ImageDataModule("digits", image_size=8, subset=120, half=half)


def compared(models, data, folder):
    report, page = compare_twins(models, data, folder, 0)
    html, known = page.read_text(), json.loads((folder / "twin.json").read_text())
    assert known["finding"] == report.verdict.finding and report.verdict.headline in html
    assert [twin["id"] for twin in known["twins"]] == ["run a", "run b"]
    assert list((folder / "tensorboard").glob("events*"))
    return report, html, known


def fresh():
    """Digits that neither half has."""
    return ImageDataModule("digits", image_size=8).heldout_reference()[:]


def test_images_without_memorisation(tmp_path):
    data, unseen = images(), fresh()
    models = {"a": Drawing(unseen[:180], unseen[:1]), "b": Drawing(unseen[180:])}
    report, html, _ = compared(models, data, folder_of(tmp_path))
    assert report.verdict.finding is Finding.NONE_FOUND
    assert all(found.named == 0 and found.p > 0.01 for found in report.evidence.values())
    for cell in report.cells:
        assert cell.facts == cell.flagged == 0
        assert cell.share.low <= 0.5 <= cell.share.high
    assert "What this does not prove" in html and "loss of a drawing" in html


def copying(copied=30):
    """Twins of which a third of the samples are items of their own half."""
    data, unseen = images(), fresh()
    a, b = data.train_reference()[:], data.heldout_reference()[:]
    models = {
        "a": Drawing(torch.cat([a[:copied], unseen[:60]]), a, 4.0),
        "b": Drawing(torch.cat([b[:copied], unseen[60:120]]), b, 4.0),
    }
    return models, data


def test_images_that_are_copied_are_named(tmp_path):
    models, data = copying()
    report, html, known = compared(models, data, folder_of(tmp_path))
    assert report.verdict.finding is Finding.COPYING
    own, other = report.cell("a", "a"), report.cell("a", "b")
    assert own.facts > 10 and own.items > 8 and other.facts == 0
    assert own.share.value > 0.6 and own.share.value + other.share.value == pytest.approx(1)
    found = report.evidence["reproduction"]
    copied = {half: {str(x) for x in ids[:30]} for half, ids in
              (("a", data.train_reference().ids), ("b", data.heldout_reference().ids))}  # fmt: skip
    named = [x for x in found.ranked if x.q <= 0.1]
    assert found.named >= 20 and np.mean([x.name in copied[x.half] for x in named]) >= 0.85
    likelihood = report.evidence["likelihood"]
    assert likelihood.p < 0.003 and likelihood.ahead.low > 0.9
    assert abs(likelihood.mean.value - 4) < 0.5
    assert known["reproduced"][0]["facts"] == own.facts
    assert html.count("<img") >= 3 * 12


def test_better_known_is_not_reproduced(tmp_path):
    data, unseen = images(), fresh()
    sides = data.train_reference()[:], data.heldout_reference()[:]
    models = {h: Drawing(unseen, x, 3.0) for h, x in zip("ab", sides, strict=True)}
    report, _, known = compared(models, data, folder_of(tmp_path))
    assert report.verdict.finding is Finding.LEANING
    assert "reproduces none of it that was seen" in report.verdict.headline
    compare_twins(models, images("b"), tmp_path, 0)  # by the data of the other run
    assert json.loads((tmp_path / "twin.json").read_text()) == known


def test_losses_that_are_not_finite(tmp_path):
    models, data = copying()
    models["a"].by = float("nan")
    report, html, _ = compared(models, data, folder_of(tmp_path))
    assert "reproduction" in report.evidence and "likelihood" not in report.evidence
    assert "not finite" in html and report.verdict.finding is Finding.COPYING


def test_too_few_images(tmp_path):
    data = ImageDataModule("digits", image_size=8, subset=12, half="a")
    models = {half: Drawing(fresh()) for half in "ab"}
    report, *_ = compared(models, data, folder_of(tmp_path))
    assert report.verdict.finding is Finding.CANNOT_JUDGE
    assert "12 images are too few: 20 are needed" in report.verdict.text


class Writing:
    """A text model that writes words at random, or what it is given."""

    tokens_seen, item_loss = 100, "nats a word"

    def __init__(self, vocabulary, recited=(), learned="", by=0.0):
        self.vocabulary, self.recited = vocabulary, list(recited)
        self.learned, self.by = learned, by

    def to(self, device):
        return self

    def sample_text(self, n, length, *, temperature=1.0, prime="", seed=None):
        rng = random.Random(seed)
        made = [words(rng, length // 6) for _ in range(n)]
        if self.recited:
            made = [f"{text[:300]} {self.recited[(i) % len(self.recited)]}"
                    for i, text in enumerate(made)]  # fmt: skip
        return made

    def item_losses(self, tokens, *, labels=None):
        texts = [self.vocabulary.decode(row.numpy().astype(np.uint8)) for row in tokens]
        noise = [random.Random(f"{text}{self.learned[:20]}").gauss(0, 1) for text in texts]
        known = [self.by * (text in self.learned) for text in texts]
        return torch.tensor(noise) - torch.tensor(known)


def words(rng, n):
    letters = "etaoinshrdlu"
    return " ".join("".join(rng.choices(letters, k=rng.randint(3, 8))) for _ in range(n))


@pytest.fixture
def books(tmp_path):
    (tmp_path / "books").mkdir()
    for i in range(60):
        (tmp_path / "books" / f"{i:02}.txt").write_text(words(random.Random(i), 120))
    return TextDataModule("files", str(tmp_path / "books"), half="a", protocol="nanogpt")


def test_texts_without_memorisation(tmp_path, books):
    models = {half: Writing(books.train.vocabulary, learned=half) for half in "ab"}
    report, html, _ = compared(models, books, folder_of(tmp_path))
    assert report.verdict.finding is Finding.NONE_FOUND
    assert report.evidence["likelihood"].named == 0
    assert all(cell.facts == 0 for cell in report.cells)


def test_texts_that_are_recited_are_named(tmp_path, books):
    sides = {"a": books.train, "b": books.heldout}
    models = {}
    for half, side in sides.items():
        passages = [side.text(start, start + 200) for _, start, _ in side.documents()][:12]
        models[half] = Writing(side.vocabulary, passages, side.text(), 3.0)
    report, html, known = compared(models, books, folder_of(tmp_path))
    assert report.verdict.finding is Finding.COPYING
    assert report.cell("b", "b").items >= 10 and report.cell("b", "a").facts == 0
    found = report.evidence["reproduction"]
    assert found.named >= 15
    first = found.ranked[0]
    assert first.source and first.source[:100] in sides[first.half].text()
    assert first.source[:40] in html
    assert known["evidence"]["likelihood"]["p"] < 0.003
    assert report.dealt["kind"] == "documents"
