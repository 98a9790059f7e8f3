"""`train.py fit --twin`: real tiny twins of every kind, killed and resumed, and wrong use."""

import json
import signal
import sys
import time

import pytest
import torch
import yaml

from novum.cli.train import main
from novum.evaluation import twin_images, twin_texts
from tests import programs
from tests.integration.commands import DIGITS, TINY, refusal, train, write_tiny
from tests.project import ROOT
from tests.tiny_text import small_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:.*treespec.*", "ignore:.*litlogger.*", "ignore:Trying to infer the `batch_size`"
    ),
]

FLOW = f"""
model:
  class_path: novum.lightning_modules.FlowMatching
  init_args:
    network: {{class_path: UNet, init_args: {{width: 8, multipliers: [1, 2], blocks: 1, attention: [4]}}}}
    sampler: {{class_path: Euler, init_args: {{steps: 2}}}}
    likelihood_images: 4
{DIGITS}"""  # noqa: E501
LSTM = """
model:
  class_path: novum.lightning_modules.CharLSTM
  init_args:
    network: {class_path: CharRNN, init_args: {hidden_size: 8}}
data:
  class_path: novum.datamodules.TextDataModule
  init_args: {dataset: files, files: text.txt, batch_size: 4, chunk_length: 8}
trainer: {accelerator: cpu, max_steps: 4, val_check_interval: 2, limit_val_batches: 1}
"""
STYLEGAN = f"""
model:
  class_path: novum.lightning_modules.StyleGAN
  init_args:
    generator:
      class_path: StyleGANGenerator
      init_args: {{width: 4, max_width: 8, latent_dim: 4, w_dim: 4, mapping_layers: 2}}
    discriminator: {{class_path: StyleGANDiscriminator, init_args: {{width: 4, max_width: 8}}}}
{DIGITS}"""
TRANSFORMER = LSTM.replace("CharLSTM", "CharTransformer").replace(
    "{class_path: CharRNN, init_args: {hidden_size: 8}}",
    "{class_path: CausalTransformer, init_args: {width: 8, layers: 2, heads: 2, context: 8}}",
)
SMALL = ["--data.subset=60"]


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys, use_shared_cache):
    """Runs `train.py fit --twin` in an empty folder, with few samples; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(twin_images, "FEWEST_SAMPLES", 60)
    monkeypatch.setattr(twin_images, "CONTROL_ROWS", 60)
    monkeypatch.setattr(twin_texts, "NUM_TEXTS", 4)
    (tmp_path / "text.txt").write_text(small_text(6000), encoding="utf-8")

    def call(config: str, *arguments: str) -> str:
        write_tiny(tmp_path, config)
        monkeypatch.setattr(sys, "argv", ["train.py"])
        main(["fit", "--config", "tiny.yaml", *arguments, "--twin"])
        return capsys.readouterr().out

    return call


def twins(folder, name="twin_0"):
    return folder / "runs" / "tiny" / name


def saved(folder, half, name="twin_0"):
    return torch.load(twins(folder, name) / half / "checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("config", "arguments", "loss"),
    [
        (TINY, SMALL, "discriminator's negated logit"),
        (FLOW, SMALL, "denoising loss"),
        (LSTM, (), "loss in nats a token"),
        (STYLEGAN, SMALL, "discriminator's negated logit"),
        (TRANSFORMER, (), "loss in nats a token"),
    ],
    ids=["gan", "flow", "char_lstm", "stylegan", "char_transformer"],
)
def test_twins(fit, tmp_path, config, arguments, loss):
    out = fit(config, *arguments)
    assert "Verdict: " in out and f"Twins:   {twins(tmp_path).relative_to(tmp_path)}" in out
    report = json.loads((twins(tmp_path) / "twin.json").read_text())
    assert report["evidence"]["likelihood"]["measure"] == loss
    assert report["not_computed"] == []
    settings = {}
    for half in "ab":
        run = twins(tmp_path) / half
        settings[half] = yaml.safe_load((run / "config.yaml").read_text())
        assert settings[half]["data"]["init_args"]["half"] == half
        record = json.loads((run / "run.json").read_text())
        assert record["finished"]["max_steps"] == "4"
        assert saved(tmp_path, half)["global_step"] == 4
        assert list(run.glob("events*"))
    known = {twin["half"]: twin for twin in report["twins"]}
    assert known["a"]["id"] != known["b"]["id"] == record["id"]
    data = [json.loads((twins(tmp_path) / x / "run.json").read_text())["data"] for x in "ab"]
    assert data[0]["train"] == data[1]["heldout"] != data[0]["heldout"]
    assert "What this does not prove" in (twins(tmp_path) / "twin.html").read_text()


def test_finished_twins_are_compared_again_and_trained_no_more(fit, tmp_path):
    fit(TINY, *SMALL)
    first = (twins(tmp_path) / "twin.json").read_text()
    before = {half: saved(tmp_path, half) for half in "ab"}
    (twins(tmp_path) / "twin.json").unlink()
    out = fit(TINY, *SMALL, "--ckpt_path=last")
    assert "twin a is done" in out and "twin b is done" in out
    assert (twins(tmp_path) / "twin.json").read_text() == first
    assert saved(tmp_path, "b")["run"]["id"] == before["b"]["run"]["id"]
    out = fit(TINY, *SMALL, "--ckpt_path=last", "--trainer.max_steps=6")  # both go on
    assert "is done" not in out
    assert [saved(tmp_path, half)["global_step"] for half in "ab"] == [6, 6]
    assert len(list((tmp_path / "runs/tiny").iterdir())) == 1
    fit(TINY, *SMALL)  # other twins
    assert twins(tmp_path, "twin_1").is_dir()
    assert saved(tmp_path, "a", "twin_1")["global_step"] == 4


FEW = """
from novum.cli.train import main
from novum.evaluation import twin_images, twin_texts

twin_images.FEWEST_SAMPLES = twin_images.CONTROL_ROWS = 60
twin_texts.NUM_TEXTS = 4
main()
"""  # train.py, which starts itself again for another rank


@pytest.mark.parametrize(
    ("config", "arguments", "batch"),
    [(LSTM, (), 4), (FLOW, SMALL, 16)],
    ids=["char_lstm", "flow"],
)
def test_two_ranks_give_what_one_gives(tmp_path, use_shared_cache, config, arguments, batch):
    """Up to the rounding of sums in another order, and the names of the runs."""
    write_tiny(tmp_path, config)
    (tmp_path / "text.txt").write_text(small_text(6000), encoding="utf-8")
    (tmp_path / "train.py").write_text(FEW)
    for ranks in (1, 2):
        share = (f"--trainer.devices={ranks}", f"--data.batch_size={batch // ranks}")
        command = ["fit", "--config", "tiny.yaml", *arguments, *share, "--twin"]
        starts = 2 * (ranks - 1)  # a rank for each half
        done = programs.run("train.py", *command, cwd=tmp_path, starts=starts)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("Verdict: ") == 1
    one, two = (dict(flat(json.loads((twins(tmp_path, name) / "twin.json").read_text())))
                for name in ("twin_0", "twin_1"))  # fmt: skip
    assert one.keys() == two.keys() and len(one) > 100
    for key, value in one.items():
        if not key.endswith(("/id", "/folder")):
            near = pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
            assert two[key] == near, key
    ends = [saved(tmp_path, "b", name) for name in ("twin_0", "twin_1")]
    counts = [[x[name] for name in ("images_seen", "tokens_seen") if name in x] for x in ends]
    assert counts[0] == counts[1] == [4 * batch * (8 if config == LSTM else 1)]


def flat(content, key=""):
    """Every value of a report by its place."""
    if isinstance(content, dict | list):
        entries = content.items() if isinstance(content, dict) else enumerate(content)
        for name, value in entries:
            yield from flat(value, f"{key}/{name}")
    else:
        yield key, content


def started(folder, *arguments):
    command = ["fit", "--config", "tiny.yaml", *arguments, "--twin"]
    with (folder / "log.txt").open("w") as log:
        return programs.start(ROOT / "train.py", *command, out=log.fileno(), err=log.fileno(),
                              cwd=folder)  # fmt: skip


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


LONG = ["--trainer.max_steps=400", "--trainer.val_check_interval=10"]
SHORT = ["--trainer.val_check_interval=10", "--trainer.max_steps=20"]


@pytest.mark.parametrize(("half", "how"), [("a", signal.SIGTERM), ("b", signal.SIGKILL)])
def test_twins_that_were_stopped_go_on(fit, tmp_path, half, how):
    """In the first or the second; what was done is kept, and the result is that of one command."""
    write_tiny(tmp_path)
    steps = SHORT if half == "b" else LONG
    process = started(tmp_path, *SMALL, *steps)
    last = twins(tmp_path) / half / "checkpoints/last.ckpt"
    wait_for(last.exists, process)
    process.send_signal(how)
    code = process.wait(200)
    assert code == (75 if how == signal.SIGTERM else -signal.SIGKILL), (
        tmp_path / "log.txt"
    ).read_text()[-2000:]
    reached = saved(tmp_path, half)["global_step"]
    most = max(reached, 20) + 10
    ends = ["--trainer.max_steps", str(most if half == "a" else 20), SHORT[0]]
    out = fit(TINY, *SMALL, *ends, "--ckpt_path=last")
    assert ("twin a is done" in out) == (half == "b")
    assert len(list((tmp_path / "runs/tiny").iterdir())) == 1
    assert (twins(tmp_path) / "twin.html").is_file()
    whole = {x: saved(tmp_path, x)["state_dict"] for x in "ab"}
    fit(TINY, *SMALL, *ends)
    for x in "ab":
        again = saved(tmp_path, x, "twin_1")["state_dict"]
        assert all(torch.equal(again[key], value) for key, value in whole[x].items())


def test_one_command_at_a_time(fit, tmp_path):
    write_tiny(tmp_path)
    process = started(tmp_path, *SMALL, *LONG)
    try:
        wait_for((twins(tmp_path) / "a/checkpoints/last.ckpt").exists, process)
        done = train(tmp_path, "fit", "--config", "tiny.yaml", *SMALL, *LONG, "--twin",
                     "--ckpt_path=last")  # fmt: skip
        assert "is being written by process" in refusal(done)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)


def test_a_trial_compares_nothing(fit, tmp_path):
    out = fit(TINY, *SMALL, "--trainer.fast_dev_run=1")
    assert "a trial compares nothing" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fit", "--config", "deep_dream"], "DeepDream is none"),
        (["fit", "--config", "style_transfer"], "StyleTransfer is none"),
        (["fit", "--config", "adversarial"], "Adversarial is none"),
        (["fit", "--config", "class_visualisation"], "ClassVisualisation is none"),
        (["fit", "--config", "classifier_fashion_mnist"], "Classifier is none"),
        (["test", "--ckpt_path", "last"], "--twin is of fit"),
        (["fit", "--config", "tiny.yaml", "--ckpt_path", "best"], "goes on with last alone"),
        (["fit", "--config", "tiny.yaml", "--data.half", "a"], "leave it out, --twin trains on"),
        (["fit", "--config", "tiny.yaml", "--data.half", "c"], "half"),
        (["fit", "--config", "nothing"], "there is no config nothing"),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_wrong_use(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--twin"])
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("python train.py: ")]
    assert exit_.value.code == 2 and len(said) == 1 and line in said[0]
    assert not list(tmp_path.glob("runs/*/*"))


def test_other_data_is_refused_though_a_run_is_done(fit, tmp_path, capsys):
    fit(LSTM)
    (tmp_path / "text.txt").write_text(small_text(6000, seed=1), encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        fit(LSTM, "--ckpt_path=last")
    assert exit_.value.code == 2 and "training data changed since" in capsys.readouterr().err


def test_one_image_cannot_be_dealt(fit, capsys):
    with pytest.raises(SystemExit) as exit_:
        fit(TINY, "--data.subset=1")
    assert exit_.value.code == 2 and "to deal halves takes two" in capsys.readouterr().err


def test_other_settings_are_named(fit, tmp_path, capsys):
    fit(TINY, *SMALL)
    with pytest.raises(SystemExit) as exit_:
        fit(TINY, *SMALL, "--ckpt_path=last", "--model.lr=1e-5")
    assert exit_.value.code == 2
    assert "twin_0, differs in model.init_args.lr 0.0002 -> 1e-05" in capsys.readouterr().err
