"""Softmax regression under FGSM (Goodfellow et al., 2015), and what many epsilons cost.

    python benchmarks/adversarial.py [--mnist FOLDER] [--output FILE.json]

Published, on MNIST at epsilon 0.25: 99.9% error, mean confidence of the errors 79.3%. MNIST itself
is used where its four IDX files lie in FOLDER. The last line times eight epsilons of EfficientNet-
Lite0 on one image: by one backward pass, and by one for each.
"""

import argparse

import torch
import torch.nn.functional as F
from _tables import in_turn, median_ratio, show

from novum.datamodules import ImageDataModule
from novum.datamodules.single_image import read_image
from novum.lightning_modules import Classifier
from novum.lightning_modules.attacks import fgsm
from novum.lightning_modules.networks import Backbone, SoftmaxRegression

EPSILONS = torch.tensor([0.0, 0.1, 0.25])


def softmax_regression(data: ImageDataModule, epochs: int, lr: float) -> Classifier:
    train = data.train_reference()
    x, y = train[:].float() / 127.5 - 1, train.labels
    torch.manual_seed(0)
    network = SoftmaxRegression(data.image_size, data.channels, data.num_classes)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    return Classifier(network)


def attacked(name: str, path: str | None = None) -> dict[str, object]:
    """Error, and mean confidence of the errors, of held-out images at each epsilon."""
    data = ImageDataModule(name, path=path, image_size=8 if name == "digits" else 28)
    model = softmax_regression(data, *((60, 1e-2) if name == "digits" else (10, 1e-3)))
    heldout = data.heldout_reference()
    row: dict[str, object] = {"data": name, "images": len(heldout)}
    for epsilon, images in zip(
        EPSILONS.tolist(), fgsm(model, heldout[:].float() / 255, heldout.labels, EPSILONS),
        strict=True,
    ):  # fmt: skip
        with torch.no_grad():
            confidence, answers = model(images).softmax(1).max(1)
        wrong = answers != heldout.labels
        row[f"error at {epsilon:g}"] = wrong.double().mean().item()
        row[f"confidence at {epsilon:g}"] = confidence[wrong].mean().item()
    return row


def sweep(rounds: int) -> float:
    """Speed of eight epsilons together, in times that of eight alone."""
    backbone, image = Backbone("efficientnet_lite0"), read_image("flower.jpg", 224)[None] / 255
    label, epsilons = backbone(image).argmax(1), torch.linspace(0.001, 0.008, 8)

    @torch.no_grad()
    def together() -> None:
        for attacked in fgsm(backbone, image, label, epsilons):
            backbone(attacked)

    @torch.no_grad()
    def one_by_one() -> None:
        for epsilon in epsilons:
            backbone(fgsm(backbone, image, label, epsilon[None])[0])

    seconds = in_turn({"together": together, "one by one": one_by_one}, rounds)
    return median_ratio(seconds["together"], seconds["one by one"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output")
    args = parser.parse_args()
    sets = [("digits", None), ("fashion_mnist", None)]
    sets += [("mnist", args.mnist)] if args.mnist else []
    show("Softmax regression under FGSM", [attacked(*each) for each in sets], args.output)
    print(
        f"eight epsilons by one backward pass: {sweep(args.rounds):.2f} times as fast as by eight"
    )


if __name__ == "__main__":
    main()
