"""Scalars with their meaning, and the order of charts."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from novum.report.events import add_scalar, chart_layout, meaning


def test_a_scalar_says_what_it_means(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        for step, value in ((1, 0.5), (2, 0.25)):
            add_scalar(writer, "quality/precision/pixels", value, step)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("quality/precision/pixels")] == [
        (1, 0.5),
        (2, 0.25),
    ]
    description = events.SummaryMetadata("quality/precision/pixels").summary_description
    assert description == meaning("quality/precision/pixels") and "Better: higher." in description


def test_ends_of_intervals_say_of_what(tmp_path):
    low = meaning("novelty/copy_rate_low/pixels")
    assert low.startswith("Lower end of the 95% interval of ")
    assert low.endswith(meaning("novelty/copy_rate/pixels"))
    assert meaning("speed/step_seconds") == "" == meaning("loss")


def test_charts_stand_in_the_order_of_reading_with_intervals_as_bands():
    tags = ["loss/generator", "health/diversity", "quality/precision/a.b", "quality/precision/c"]
    rate = "novelty/copy_rate"
    tags += [f"{rate}/pixels", f"{rate}_low/pixels", f"{rate}_high/pixels", "other/x"]
    layout = chart_layout(tags)
    assert list(layout) == ["quality", "novelty", "health", "loss"]
    assert layout["quality"]["precision"] == [
        "Multiline",
        [r"quality/precision/a\.b", "quality/precision/c"],
    ]
    band = [f"{rate}/pixels", f"{rate}_low/pixels", f"{rate}_high/pixels"]
    assert layout["novelty"] == {"copy_rate in pixels": ["Margin", band]}
    assert chart_layout([]) == {}
