"""Rows of the Novelty tab, as evaluations write them, and reviews as later ones read them."""

import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import novum
from novum.core.errors import InputError
from novum.datamodules import ImageDataModule
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.evidence import Altered
from novum.evaluation.novelty_rows import image_rows
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.report.model import Report
from novum.report.novelty_record import FOLDER, picture_path, read_rows, read_timeline
from novum.report.reviews import REVIEWS, decide, pair_of_images
from tests.metrics.novelty.scenes import scenes
from tests.metrics.novelty.text.markov import chain, plant


@pytest.fixture(scope="module")
def digits():
    """Training and held-out digits, and samples of which 12 are copies, 12 more altered ones."""
    data = ImageDataModule("digits", image_size=16)
    train, heldout = (x[:600].numpy() for x in (data.train_reference(), data.heldout_reference()))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 12, train[12:24].shape)
    altered = np.clip(train[12:24].astype(int) + noise, 0, 255).astype(np.uint8)
    own = np.roll(heldout[200:], 1, axis=2)  # like data, and no image of it
    return np.concatenate([train[:12], altered, own]), train, heldout[:200]


def cells(run, step, columns=4):
    """The picture's cells (rows, 4, h, w, 3)."""
    rows = read_rows(run, step)
    width, height = rows.cell
    with Image.open(io.BytesIO(picture_path(run, step, "rows").read_bytes())) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    split = pixels.reshape(len(rows.images), height, columns, width, 3)
    return split.swapaxes(1, 2)


def test_rows_show_the_pairs_that_the_report_names_and_some_others(digits, tmp_path):
    samples, train, heldout = digits
    report = novum.evaluate(samples, train, heldout, features="pixels", output=tmp_path / "out")
    (line,) = read_timeline(tmp_path / "out")
    assert line.finding == report.finding.value == "copying" and not line.redacted
    assert line.facts == len(report.facts) >= 12
    assert line.copy_rate.value == pytest.approx(report.gate.copy_rate.value, rel=1e-4)
    assert line.figures["novelty/copy_rate/pixels"].value is not None
    rows, pictures = read_rows(tmp_path / "out", 0), cells(tmp_path / "out", 0)
    assert len(rows.images) == 64 and sum(row.ordinary for row in rows.images) == 16
    named = {copy.sample: copy.train for copy in report.copies}
    named |= {fact.sample: fact.train for fact in report.facts}
    shown = {row.sample: row for row in rows.images}
    assert len(named) >= 20 and all(shown[i].named and shown[i].train == named[i] for i in named)
    assert not any(row.named for row in rows.images if row.sample not in named)
    for i, row in enumerate(rows.images):
        sample, source = samples[row.sample], train[row.train]
        assert row.pair == pair_of_images(sample.tobytes(), source.tobytes())
        assert np.array_equal(pictures[i, 0, :, :, 0], sample[0])
        assert np.array_equal(pictures[i, 1, :, :, 0], source[0])
        if row.heldout is not None:
            assert np.array_equal(pictures[i, 2, :, :, 0], heldout[row.heldout][0])
        if row.space == "pixels":
            apart = np.abs(sample[0].astype(int) - source[0])
            assert np.array_equal(pictures[i, 3, :, :, 0], apart)
    first = rows.images[0]
    assert first.fact == "identical" and pictures[0, 3].max() == 0
    assert any(row.realism is not None for row in rows.images)


def test_a_detector_lays_the_training_image_over_its_copy():
    train = scenes(24, 64)
    samples = torch.cat([train[:2].flip(-1), scenes(4, 64, seed=9)])
    found = AlteredCopyDetector(train, progress=False).search(samples)
    sides = {"samples": ImageArray(samples), "train": ImageArray(train)}
    altered = {"alignment": Altered(found, None, None)}
    rows, picture = image_rows(Report(), {}, altered, sides, lambda _: {0: math.inf})
    first = next(row for row in rows.images if row.sample == 0)
    assert first.train == 0 and "mirrored" in first.transform and first.realism == 1e9
    with Image.open(io.BytesIO(picture)) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    at = rows.images.index(first) * 64
    plain = np.abs(samples[0].numpy().astype(int) - train[0].numpy()).mean()
    assert pixels[at : at + 64, 192:].mean() < plain / 4  # of the difference


def test_without_heldout_images_rows_have_no_q(digits, tmp_path):
    samples, train, _ = digits
    novum.evaluate(samples[:30], train, features="pixels", output=tmp_path)
    rows = read_rows(tmp_path, 0)
    assert len(rows.images) == 30 and {row.q for row in rows.images} == {None}
    assert {row.heldout for row in rows.images} == {None}
    assert (cells(tmp_path, 0)[:, 2] == 255).all()


def test_two_samples_are_two_rows(digits, tmp_path):
    samples, train, heldout = digits
    novum.evaluate(samples[11:13], train, heldout, features="pixels", output=tmp_path)
    assert [row.sample for row in read_rows(tmp_path, 0).images] == [0, 1]


def test_large_images_are_shown_small(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 3, 150, 150), dtype=np.uint8)
    sets = images[:10], images[10:30], images[30:]
    novum.evaluate(*sets, features="pixels@8", output=tmp_path)
    assert read_rows(tmp_path, 0).cell == [96, 96]
    assert picture_path(tmp_path, 0, "rows").stat().st_size < 1_200_000  # of noise


def test_a_redacted_evaluation_leaves_figures_alone(digits, tmp_path):
    samples, train, heldout = digits
    out = tmp_path / "out"
    novum.evaluate(samples, train, heldout, features="pixels", output=out, redacted=True)
    (line,) = read_timeline(out)
    assert line.redacted and line.facts >= 12
    assert not read_rows(out, 0).images and picture_path(out, 0, "rows") is None
    assert not [path for path in (out / FOLDER).iterdir() if path.suffix in (".png", ".jpg")]


def test_a_later_report_recognises_what_a_person_has_reviewed(digits, tmp_path):
    samples, train, heldout = digits
    first = novum.evaluate(samples, train, heldout, features="pixels", output=tmp_path)
    for sample, decision in ((0, "confirmed"), (1, "rejected")):
        pair = pair_of_images(samples[sample].tobytes(), train[sample].tobytes())
        decide(tmp_path, pair, decision)
    moved = np.concatenate([samples[1:], samples[:1]])  # the same images elsewhere
    again = novum.evaluate(moved, train, heldout, features="pixels", output=tmp_path)
    found = {(r.sample, r.train): r.decision for r in again.reviewed}
    assert found == {(len(samples) - 1, 0): "confirmed", (0, 1): "rejected"}
    assert "1 confirmed and 1 rejected" in again.page and not first.reviewed
    assert again.verdict == first.verdict
    redacted = novum.evaluate(
        samples, train, heldout, features="pixels", output=tmp_path / "other", redacted=True
    )
    assert not redacted.reviewed  # of another folder


def test_reviews_of_another_shape_are_told_before_the_work(digits, tmp_path):
    (tmp_path / REVIEWS).write_text("[]")
    with pytest.raises(InputError, match="no list of reviews"):
        novum.evaluate(*digits, features="pixels", output=tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_passages_stand_in_rows_with_their_differences(tmp_path):
    train, heldout = chain(30_000, seed=1), chain(20_000, seed=2)
    planted = plant(chain(4000, seed=4), train, [300, 200], seed=1)
    report = novum.evaluate([planted.text], [train], [heldout], kind="text", output=tmp_path)
    (line,) = read_timeline(tmp_path)
    assert (line.kind, line.unit, line.facts) == ("text", "characters", len(report.facts))
    rows = read_rows(tmp_path, 0).passages
    assert len(rows) == min(64, len(report.passages)) >= 2
    first, copy = rows[0], report.passages[0]
    assert "".join(part.text for part in first.own) == planted.text[copy.sample :][: copy.length]
    assert first.fact == "passage" and first.named and first.bits == pytest.approx(copy.bits, 1e-4)
    decide(tmp_path, first.pair, "confirmed")
    again = novum.evaluate([planted.text], [train], [heldout], kind="text", output=tmp_path)
    assert [(r.sample, r.decision) for r in again.reviewed] == [(copy.sample, "confirmed")]
    assert "confirmed by a person" in again.page
    report = novum.evaluate(
        [planted.text], [train], [heldout], kind="text", output=tmp_path / "r", redacted=True
    )
    kept = b"".join(path.read_bytes() for path in (tmp_path / "r" / FOLDER).iterdir())
    assert planted.text[copy.sample :][:40].encode() not in kept
    assert not json.loads(report.to_json()).get("reviewed")
