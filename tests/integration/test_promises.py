"""What the README says that every config, or every one of a kind, leaves and shows."""

import pytest
import yaml

from novum.cli.train import CONFIGS

EXPERIMENTS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted(CONFIGS.glob("*.yaml"))
    if path.stem != "default"
}
PICTURES = {"adversarial", "style_transfer", "deep_dream", "class_visualisation"}
CLASSIFIERS = {"classifier_fashion_mnist", "classifier_folder"}
GENERATORS = EXPERIMENTS.keys() - PICTURES - CLASSIFIERS


def callbacks(name: str) -> set[str]:
    every = EXPERIMENTS[name]["trainer"]["callbacks+"]
    return {callback["class_path"].rsplit(".", 1)[1] for callback in every}


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_generator_shows_samples_quality_and_copies_and_leaves_a_report(name):
    found = callbacks(name)
    assert {"BestCheckpoint", "RunSummary", "TrainingHealth"} <= found
    text = EXPERIMENTS[name]["model"]["class_path"].endswith(("CharLSTM", "CharTransformer"))
    shown = {"TextSamples", "TextNovelty"} if text else {"SampleGrid", "FilmStrip"}
    judged = set() if text else {"FrechetDistanceCallback", "NearestNeighbours"}
    assert shown | judged <= found


@pytest.mark.parametrize("name", sorted(PICTURES | CLASSIFIERS))
def test_others_leave_a_picture_or_the_best_checkpoint(name):
    assert ("BestCheckpoint" if name in CLASSIFIERS else "WriteResult") in callbacks(name)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_no_config_judges_less_than_it_says(name):
    """A limit of validation stands in the config that has it, with what it leaves."""
    assert (
        "limit_val_batches" not in yaml.safe_load((CONFIGS / "default.yaml").read_text())["trainer"]
    )
    for line in (CONFIGS / f"{name}.yaml").read_text().splitlines():
        if "limit_val_batches" in line and not line.endswith(" 1.0"):
            assert "  # " in line
