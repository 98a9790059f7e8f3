"""Our image batches against torchvision's DataLoader with ToTensor and Normalize per item.

    python benchmarks/data_path.py [--dataset fashion_mnist] [--output FILE.json]

Both give shuffled float batches of 64 in [-1, 1] at the data's own 28 px. torchvision's dataset is
wrapped around the same pixels as PIL images, which is what its MNIST classes return.
"""

import argparse
import itertools
import statistics
import warnings

import torch
from _tables import in_turn, median_ratio, show
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from novum.datamodules import ImageDataModule

BATCH = 64


class PilImages(Dataset):
    """Per item as torchvision.datasets.FashionMNIST: array to PIL, then the transforms."""

    def __init__(self, images: Tensor) -> None:
        self.images = images[:, 0].numpy()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        return self.transform(Image.fromarray(self.images[row]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    data = ImageDataModule(args.dataset, image_size=28, batch_size=BATCH)
    data.setup()
    peer = DataLoader(PilImages(data.train_reference()[:]), BATCH, shuffle=True)

    def ours() -> None:
        for batch in itertools.islice(data.train_dataloader(), args.batches):
            data.on_after_batch_transfer(batch, 0)

    def theirs() -> None:
        for _ in itertools.islice(itertools.cycle(peer), args.batches):
            pass

    seconds = in_turn(
        {"novum ImageDataModule": ours, "torchvision DataLoader": theirs}, args.rounds
    )
    rows = [
        {
            "contestant": name,
            "images/s (median)": BATCH * args.batches / statistics.median(times),
            "us/batch": 1e6 * statistics.median(times) / args.batches,
            "ratio (median of rounds)": median_ratio(times, list(seconds.values())[1]),
        }
        for name, times in seconds.items()
    ]
    show(
        f"Image batches of {BATCH}, {args.dataset}, {torch.get_num_threads()} threads",
        rows,
        args.output,
    )


if __name__ == "__main__":
    main()
