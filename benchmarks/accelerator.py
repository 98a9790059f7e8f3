"""Everything that only a GPU can show, in one command of at most nine minutes.

    python benchmarks/accelerator.py [--cifar10 train.parquet] [--output accelerator.json]
    python benchmarks/accelerator.py --tiny --device cpu          # a trial of it anywhere

Each row is in the JSON file as soon as it is measured, with a page of all of them beside it
(`.md`); the same command again takes the parts that did not end. A part that fails or lacks a
package says so in its place, and the others run. Training curves take what is left of `--budget`.
"""

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Row = dict[str, Any]
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true")
# stylegan2-ada-pytorch's README, 128 px, cfg auto with ADA, one V100: seconds per thousand images
PUBLISHED_SECONDS_PER_KIMG = "12.8 to 13.7 (V100)"


class Bench:
    """Sizes, the device, and how much time is left."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.tiny, self.cifar10 = torch.device(args.device), args.tiny, args.cifar10
        self.end = time.monotonic() + args.budget
        self.add: Callable[[Row], None] = print  # takes each row as it is measured

    def size(self, full: int, tiny: int) -> int:
        return tiny if self.tiny else full

    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], Any], rounds: int = 3) -> float:
        """Median seconds of a call, after one that warms up."""
        times = []
        for i in range(rounds + 1):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            if i:
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    def images(self, n: int, size: int = 32, seed: int = 0) -> Tensor:
        """Smooth random images, uint8 (n, 3, size, size)."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(n, 3, 8, 8, generator=generator)
        x = torch.nn.functional.interpolate(x, (size, size), mode="bicubic").clamp(0, 1)
        return (x * 255).to(torch.uint8)


# -- training ------------------------------------------------------------------------------------


def images_module(bench: Bench, size: int, batch: int, n: int = 4096) -> Any:
    """A DataModule of random images in memory."""
    from novum.datamodules import ImageDataModule
    from novum.datamodules.sources.image_sources import ImageArray

    n = bench.size(n, 4 * batch)
    data = ImageDataModule("digits", image_size=size, channels=3, batch_size=batch)
    labels = torch.arange(n) % 10
    data._train = ImageArray(bench.images(n, size), labels)
    data._heldout = ImageArray(bench.images(64, size, 1), labels[:64])
    return data


def dcgan(width: int = 64, size: int = 32, **settings: Any) -> Any:
    from novum.lightning_modules import GAN
    from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator

    return GAN(DCGANGenerator(size, width=width), DCGANDiscriminator(size, width=width), **settings)


def stylegan(size: int, width: int, **settings: Any) -> Any:
    from novum.lightning_modules import AdaptiveAugment, StyleGAN
    from novum.lightning_modules.networks import StyleGANDiscriminator, StyleGANGenerator

    return StyleGAN(
        StyleGANGenerator(size, width=width, mapping_layers=2),
        StyleGANDiscriminator(size, width=width),
        augment=AdaptiveAugment("bgc", p=0.2),
        **settings,
    )


def lstm(bench: Bench) -> tuple[Any, Any]:
    from novum.datamodules import TextDataModule
    from novum.lightning_modules import CharLSTM
    from novum.lightning_modules.networks import CharRNN

    data = TextDataModule("stdlib", batch_size=bench.size(128, 4), chunk_length=bench.size(128, 8))
    hidden = bench.size(512, 16)
    return CharLSTM(CharRNN(data.vocab_size, hidden, 2), data.alphabet), data


def transformer(bench: Bench, **settings: Any) -> tuple[Any, Any]:
    """The sizes of `char_transformer_shakespeare_gpu`, on text that every machine has."""
    from novum.datamodules import TextDataModule
    from novum.lightning_modules import CharTransformer
    from novum.lightning_modules.networks import CausalTransformer

    context = bench.size(256, 8)
    data = TextDataModule("stdlib", batch_size=bench.size(64, 4), chunk_length=context)
    width, layers, heads = (bench.size(*x) for x in ((384, 16), (6, 2), (6, 2)))
    network = CausalTransformer(data.vocab_size, width, layers, heads, context)
    return CharTransformer(network, data.alphabet, **settings), data


def flow(bench: Bench, width: int, size: int, **settings: Any) -> Any:
    """A U-Net of three resolutions by EDM's preconditioning, as `flow_cifar10` has it."""
    from novum.lightning_modules import EDM, FlowMatching, Heun
    from novum.lightning_modules.networks import UNet

    blocks, sampler = bench.size(3, 1), Heun(steps=bench.size(17, 2))
    network = UNet(size, 3, 10, width, blocks=blocks, attention=(size // 2,), head_width=width // 2)
    return FlowMatching(network, EDM(), sampler, **settings)


def classifier(bench: Bench) -> Any:
    from novum.lightning_modules import Classifier
    from novum.lightning_modules.networks import SmallCNN

    return Classifier(SmallCNN(32, 3, 10, width=bench.size(64, 4)))


@contextmanager
def float16_on_cpu(bench: Bench, precision: str) -> Iterator[dict[str, Any]]:
    """Trainer settings of a precision; by name a CPU takes bfloat16 for float16."""
    from pytorch_lightning.plugins import MixedPrecision

    if precision == "16-mixed" and bench.device.type == "cpu":
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        yield {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
    else:
        yield {"precision": precision}


@contextmanager
def noted(row: Row) -> Iterator[None]:
    """Write an error into the row and go on: the others are still worth their time."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        row["error"] = f"{type(error).__name__}: {str(error)[:200]}"


def fit(
    bench: Bench, module: Any, data: Any, steps: int, precision: str = "32-true", **more
) -> float:
    """Seconds a step in the steady state, the first third of the steps left out."""
    from _steps import bare_trainer
    from pytorch_lightning import Callback

    class Clock(Callback):
        start = 0.0

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            if done in (steps // 3, steps):
                bench.wait()
                self.seconds = (time.perf_counter() - self.start) / (steps - steps // 3)
                self.start = time.perf_counter()

    clock = Clock()
    with float16_on_cpu(bench, precision) as settings:
        trainer = bare_trainer(
            accelerator="gpu" if bench.device.type == "cuda" else "cpu",
            max_steps=steps,
            log_every_n_steps=max(steps // 2, 1),
            callbacks=[clock],
            **settings,
            **more,
        )
        trainer.fit(module, data)
    return clock.seconds


def precisions(bench: Bench) -> None:
    """Every trained technique in every precision: all weights finite, and the speed."""
    steps, batch = bench.size(24, 3), bench.size(64, 4)
    size, width = bench.size(32, 8), bench.size(64, 4)

    def techniques() -> dict[str, Callable[[], tuple[Any, Any]]]:
        return {
            "gan": lambda: (dcgan(width, size, r1_gamma=1.0), images_module(bench, size, batch)),
            "stylegan": lambda: (
                stylegan(size, width, r1_interval=4),
                images_module(bench, size, batch),
            ),
            "classifier": lambda: (classifier(bench), images_module(bench, 32, batch)),
            "char lstm": lambda: lstm(bench),
            "char transformer": lambda: transformer(bench),
            "flow matching": lambda: (
                flow(bench, width, size),
                images_module(bench, size, batch),
            ),
        }

    for name, make in techniques().items():
        for precision in PRECISIONS:
            torch.manual_seed(0)
            row: Row = {"technique": name, "precision": precision}
            with noted(row):
                module, data = make()
                row["ms a step"] = 1000 * fit(bench, module, data, steps, precision)
                finite = (x.isfinite().all() for x in module.parameters())
                row["all weights finite"] = all(bool(x) for x in finite)
            bench.add(row)


def throughput(bench: Bench) -> None:
    """Images or characters a second of the usual sizes."""
    return _throughput(bench, compiled=False)


def compiled(bench: Bench) -> None:
    """The same through torch.compile, the seconds of compiling left out."""
    return _throughput(bench, compiled=True)


def _throughput(bench: Bench, compiled: bool) -> None:
    steps = bench.size(60, 3)

    def measure(module: Any, data: Any, precision: str, each: int, unit: str) -> Row:
        seconds = fit(bench, module, data, steps, precision)
        return {"ms a step": 1000 * seconds, f"{unit} a second": each / seconds}

    def image_model(
        what: str, make: Callable[[], Any], size: int, batch: int, precision: str
    ) -> None:
        row: Row = {"what": f"{what}, {size} px, batch {batch}", "precision": precision}
        with noted(row):
            data = images_module(bench, size, batch, 2048)
            row |= measure(make(), data, precision, batch, "images")
        if "ms a step" in row and what.startswith("StyleGAN"):
            row["s per kimg"] = row["ms a step"] / batch
            row["stylegan2-ada-pytorch, 128 px"] = PUBLISHED_SECONDS_PER_KIMG
        bench.add(row)

    def text_model(what: str, make: Callable[[], tuple[Any, Any]]) -> None:
        row: Row = {"what": what, "precision": "bf16-mixed"}
        with noted(row):
            module, data = make()
            each = data.batch_size * data.chunk_length
            row |= measure(module, data, "bf16-mixed", each, "characters")
        bench.add(row)

    # every module must be new: compiled networks stay compiled
    size, wide = bench.size(32, 8), bench.size(64, 4)
    networks: Any = {"compile_networks": compiled}
    image_model(
        "DCGAN", lambda: dcgan(wide, size, **networks), size, bench.size(128, 4), "bf16-mixed"
    )
    make_flow = partial(flow, bench, 2 * wide, size, compile_network=compiled)
    image_model("flow matching", make_flow, size, bench.size(256, 4), "bf16-mixed")
    text_model("char transformer", partial(transformer, bench, compile_network=compiled))
    if not compiled:
        text_model("char-LSTM", partial(lstm, bench))
    size, width, batch = bench.size(128, 16), bench.size(128, 4), bench.size(32, 4)
    for precision in ("16-mixed",) if compiled else ("16-mixed", "bf16-mixed", "32-true"):
        make = partial(stylegan, size, width, **networks)
        image_model("StyleGAN2-ADA", make, size, batch, precision)


def profiles(bench: Bench) -> None:
    """Time of a step of StyleGAN2-ADA, with each penalty, and of its kernels (of four steps)."""
    from torch.profiler import ProfilerActivity, profile

    size, width, batch = bench.size(128, 16), bench.size(128, 4), bench.size(32, 4)
    settings = {
        "no penalty": {"r1_gamma": 0.0, "path_length_weight": 0.0},
        "R1 at each step": {"r1_interval": 1, "path_length_weight": 0.0},
        "path length at each step": {"r1_gamma": 0.0, "path_length_interval": 1},
    }
    for name, penalties in settings.items():
        row: Row = {"what": name}
        with noted(row):
            gan, data = stylegan(size, width, **penalties), images_module(bench, size, batch, 512)
            row["ms a step"] = 1000 * fit(bench, gan, data, 6, "bf16-mixed")
        bench.add(row)
    activity = ProfilerActivity.CUDA if bench.device.type == "cuda" else ProfilerActivity.CPU
    gan, data = stylegan(size, width), images_module(bench, size, batch, 512)
    with profile(activities=[activity]) as taken:
        fit(bench, gan, data, 4, "bf16-mixed")
    on_device = activity is ProfilerActivity.CUDA
    kernels = sorted(
        taken.key_averages(),
        key=lambda e: e.self_device_time_total if on_device else e.self_cpu_time_total,
    )
    for event in kernels[: -1 - bench.size(15, 3) : -1]:
        spent = event.self_device_time_total if on_device else event.self_cpu_time_total
        bench.add({"what": event.key[:90], "ms of all": spent / 1000, "calls": event.count})


def sampling(bench: Bench) -> None:
    """Samples of untrained models: what an evaluation waits for."""
    size, width = bench.size(32, 8), bench.size(64, 4)
    images = {
        "DCGAN": (lambda: dcgan(width, size), bench.size(10_000, 8)),
        "StyleGAN2": (lambda: stylegan(size, width), bench.size(10_000, 8)),
        "flow matching, 33 evaluations": (
            lambda: flow(bench, 2 * width, size),
            bench.size(500, 4),
        ),
    }
    for name, (make, n) in images.items():
        row: Row = {"model": name, "samples": n}
        with noted(row), torch.autocast(bench.device.type, torch.bfloat16):
            module = make().to(bench.device).eval()
            row["a second"] = n / bench.seconds(lambda: module.sample(n, seed=0), 1)  # noqa: B023
        bench.add(row)
    for name, make in {"char-LSTM": lstm, "char transformer": transformer}.items():
        n, length = bench.size(64, 2), bench.size(500, 8)
        row = {"model": name, "samples": n, "characters of each": length}
        with noted(row):
            module = make(bench)[0].to(bench.device).eval()
            seconds = bench.seconds(lambda: module.sample_text(n, length, seed=0), 1)  # noqa: B023
            row["characters a second"] = n * length / seconds
        bench.add(row)


def _speed(seconds: float, each: int, what: str) -> Row:
    return {"ms a step": 1000 * seconds, f"{what} a second": each / seconds}


# -- judging -------------------------------------------------------------------------------------


def figures(bench: Bench) -> None:
    """Every figure of a feature space, computed on the device and on the CPU."""
    from novum.evaluation.space import judge
    from novum.metrics.functional import Moments
    from novum.metrics.neighbours import neighbour_distances
    from novum.metrics.record import FeatureSets

    n, d = bench.size(4000, 200), bench.size(256, 12)
    draw = [torch.randn(k, d, generator=torch.Generator().manual_seed(i)) for i, k in
            enumerate((n, n // 2, n // 2))]  # fmt: skip
    train, heldout, fake = draw
    fake = torch.cat([fake, train[: n // 20] + 1e-3])
    moments, near = Moments().update(train), neighbour_distances(train[: len(fake)], 5)
    sets = FeatureSets(train, heldout, fake, moments, near)
    found = []
    for device in (torch.device("cpu"), bench.device):
        judged = judge(sets, progress=False, device=device)
        found.append({k: v.value for k, v in (judged.quality | judged.novelty).items()})
    for name, value in found[0].items():
        there = found[1][name]
        if value is not None and there is not None:
            off = abs(there - value) / max(abs(value), 1e-12)
            bench.add({"figure": name, "cpu": value, "device": there, "relative difference": off})


def features(bench: Bench) -> None:
    """Images a second of each extractor whose weights are here, and how far the device is off."""
    from novum.metrics.features import extract_features, load_extractor

    images = bench.images(bench.size(10_000, 64))
    for name in ("efficientnet_lite0", "inception", "dinov2"):
        try:
            extractor = load_extractor(name)
        except Exception as error:
            bench.add({"extractor": name, "images a second": f"not here: {str(error)[:60]}"})
            continue
        few = images[:64]
        on_cpu = extract_features(extractor.cpu(), few, progress=False)
        extractor.to(bench.device)
        there = extract_features(extractor, few, progress=False)
        seconds = bench.seconds(lambda: extract_features(extractor, images, progress=False), 1)  # noqa: B023
        bench.add(
            {
                "extractor": name,
                "images a second": len(images) / seconds,
                "largest difference to the CPU": float(
                    (on_cpu - there).abs().max() / on_cpu.abs().max()
                ),
            }
        )


def neighbours(bench: Bench) -> None:
    """Exact search against torch's product and top k, and faiss on the GPU if it is here."""
    from novum.metrics.neighbours import knn

    n, m, d, k = bench.size(50_000, 500), bench.size(10_000, 50), bench.size(1280, 16), 5
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator)).Q
    x = (torch.randn(n + m, d, generator=generator) / torch.arange(1, d + 1)) @ basis
    queries, reference = x[:m].to(bench.device), x[m:].to(bench.device)
    exact = knn(queries[:50].cpu(), reference.cpu(), k)

    def brute() -> Tensor:
        near = [
            (reference.square().sum(1) - 2 * q @ reference.T).topk(k, largest=False).indices
            for q in queries.split(1024)
        ]
        return torch.cat(near)

    runs: dict[str, Callable[[], Tensor]] = {
        "novum, exact": lambda: knn(queries, reference, k).indices,
        "torch, float32 product": brute,
    }
    try:
        import faiss

        if bench.device.type == "cuda":
            index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), d)
            index.add(reference.cpu().numpy())
            host = queries.cpu().numpy()
            runs["faiss, GpuIndexFlatL2"] = lambda: torch.from_numpy(index.search(host, k)[1])
    except (ImportError, AttributeError):
        pass
    for name, run in runs.items():
        right = float((run()[:50].cpu() == exact.indices).double().mean())
        bench.add({"search": name, "seconds": bench.seconds(run), "equal to exact": right})


def evaluation(bench: Bench) -> None:
    """The whole of an evaluation in one space: features of three sets, then every figure."""
    from novum.evaluation.space import judge, quality_floor
    from novum.metrics.features import extract_features, load_extractor
    from novum.metrics.functional import Moments
    from novum.metrics.record import FeatureSets

    n = bench.size(10_000, 60)
    extractor = load_extractor("efficientnet_lite0").to(bench.device)
    start = time.perf_counter()
    train, heldout, fake = (
        extract_features(extractor, bench.images(k, seed=i), progress=False)
        for i, k in enumerate((5 * n, n, n))
    )
    extracted = time.perf_counter() - start
    sets = FeatureSets(train, heldout, fake, Moments().update(train))
    judge(sets, progress=False, device=bench.device)
    quality_floor(sets, bench.device)
    bench.add(
        {
            "samples": n,
            "training images": 5 * n,
            "features, s": extracted,
            "figures, s": time.perf_counter() - start - extracted,
        }
    )


# -- training curves -----------------------------------------------------------------------------


def curves(bench: Bench) -> None:
    """Fréchet distance on CIFAR-10 as minutes go by, an equal share of the time for each."""
    for i, (name, module) in enumerate(
        {
            "DCGAN": dcgan(bench.size(64, 4), augment=None),
            "StyleGAN2-ADA": stylegan(32, bench.size(256, 4)),
            "flow matching": flow(bench, bench.size(128, 8), 32, ema_kimg=50.0),
        }.items()
    ):
        _curve(bench, name, module, bench.left() / (3 - i))


def _curve(bench: Bench, name: str, module: Any, seconds: float) -> None:
    from _steps import bare_trainer
    from pytorch_lightning import Callback

    from novum.datamodules import ImageDataModule
    from novum.metrics.features import extract_features, load_extractor
    from novum.metrics.functional import frechet_distance_from_features

    options = {"image_size": 32, "channels": 3, "batch_size": bench.size(128, 8)}
    if bench.cifar10 is None:
        data = ImageDataModule("digits", **options)
    else:
        data = ImageDataModule("huggingface", path=bench.cifar10, **options)
    extractor = load_extractor("efficientnet_lite0").to(bench.device)
    n, points = bench.size(5000, 64), bench.size(4, 2)
    real = extract_features(extractor, data.train_reference()[: 2 * n], progress=False)
    begin = time.monotonic()

    class Curve(Callback):
        taken = 0

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            gone = time.monotonic() - begin
            last = trainer.global_step >= trainer.max_steps
            if gone < seconds * (self.taken + 1) / points and not last:
                return
            self.taken += 1
            fake = extract_features(extractor, pl_module.sample(n, seed=0).cpu(), progress=False)
            bench.add(
                {
                    "run": name + ("" if bench.cifar10 else " (digits: no --cifar10)"),
                    "seconds": gone,
                    "images seen": pl_module.images_seen,
                    f"Fréchet distance of {n:,}, efficientnet_lite0": (
                        frechet_distance_from_features(real, fake)
                    ),
                }
            )
            trainer.should_stop = self.taken == points

    with float16_on_cpu(bench, "bf16-mixed") as settings:
        bare_trainer(
            accelerator="gpu" if bench.device.type == "cuda" else "cpu",
            max_steps=bench.size(10**9, 6),
            callbacks=[Curve()],
            **settings,
        ).fit(module, data)


PARTS: dict[str, Callable[[Bench], None]] = {
    "figures": figures,
    "neighbours": neighbours,
    "features": features,
    "evaluation": evaluation,
    "precisions": precisions,
    "throughput": throughput,
    "sampling": sampling,
    "profiles": profiles,
    "compiled": compiled,
    "curves": curves,
}


def page(content: dict[str, Any]) -> str:
    """All results as a page of Markdown."""
    lines = ["# Accelerator", "", f"{content['machine']}", ""]
    for name, part in content["parts"].items():
        lines += [f"## {name}", "", f"{PARTS[name].__doc__}", ""]
        if rows := part["rows"]:
            keys = list(dict.fromkeys(key for row in rows for key in row))
            lines += ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
            lines += ["| " + " | ".join(_cell(row.get(k, "")) for k in keys) + " |" for row in rows]
            lines.append("")
        seconds = f"{part['seconds']:.0f} s"
        said = {"done": f"({seconds})", "stopped": f"(stopped after {seconds})"}
        lines += [said.get(part["end"], f"Failed after {seconds}: {part['end']}"), ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes for a trial")
    parser.add_argument("--budget", type=float, default=530.0, help="seconds for all of it")
    parser.add_argument("--cifar10", help="CIFAR-10's training images as parquet")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", default="accelerator.json")
    args = parser.parse_args()
    bench, output = Bench(args), Path(args.output)
    device = bench.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    machine = f"{name}, torch {torch.__version__}" + (", tiny sizes" if args.tiny else "")
    content: dict[str, Any] = {"machine": machine, "parts": {}}
    if output.exists() and (known := json.loads(output.read_text()))["machine"] == machine:
        content = known
    for part in args.parts:
        if content["parts"].get(part, {}).get("end") == "done":
            continue
        if bench.left() < 10:
            print(f"{part}: no time is left; run it again to go on")
            continue
        measure(bench, part, content, output)
        print(
            f"{part}: {content['parts'][part]['seconds']:.0f} s, {bench.left():.0f} s left",
            flush=True,
        )


def measure(bench: Bench, part: str, content: dict[str, Any], output: Path) -> None:
    """Run a part; its rows are in the content and on disk one by one."""
    start = time.monotonic()
    result: dict[str, Any] = {"rows": [], "end": "stopped"}
    content["parts"][part] = result

    def save() -> None:
        result["seconds"] = time.monotonic() - start
        output.write_text(json.dumps(content, indent=1) + "\n")
        output.with_suffix(".md").write_text(page(content))

    def add(row: Row) -> None:
        result["rows"].append(row)
        save()

    bench.add = add
    try:
        PARTS[part](bench)
        result["end"] = "done"
    except Exception as error:
        traceback.print_exc()
        result["end"] = f"{type(error).__name__}: {error}"
    save()


if __name__ == "__main__":
    main()
