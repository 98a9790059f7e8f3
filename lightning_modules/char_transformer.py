"""Character models that attend to a window of text (nanoGPT)."""

from collections.abc import Callable
from typing import Any, cast

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from novum.core.byte_pairs import new_vocabulary
from novum.core.errors import InputError
from novum.lightning_modules.networks.causal_transformer import CausalTransformer
from novum.lightning_modules.schedules import warmup_cosine
from novum.lightning_modules.text_model import TextModel, evaluating
from novum.lightning_modules.text_sampling import Sampling
from novum.lightning_modules.training_utils import save_plain_hyperparameters


class CharTransformer(TextModel):
    """Predicts the next token from a window of those before it.

    Each chunk of a batch is a window of its own, so `order: random` of the data suits it.

    Args:
        network: (tokens (t, b), state) -> (logits (t, b, v), state), such as
            networks.CausalTransformer, with a `context` that no chunk may exceed.
        alphabet: The characters of the tokens, as the data gives them; null for bytes.
        merges: Of bytes to tokens, as the data gives them; null for none.
        lr: Learning rate of AdamW, unless an optimizer is given.
        weight_decay: Of AdamW, on matrices alone.
        betas: Of AdamW.
        optimizer: Another optimizer, by class_path, with a decay of its own.
        schedule: A function of novum.lightning_modules.schedules that the learning rate is
            multiplied by.
        compile_network: Run the network through torch.compile in training.
        predict_samples: Texts that `predict` writes.
        predict_length: Characters of each.
        sampling: How they are drawn.
        seed: Of dropout, and of what `predict` writes.
        transfer: A checkpoint whose weights to begin with; `vocabulary_of` of the data keeps its
            vocabulary.
    """

    def __init__(
        self,
        network: nn.Module,
        alphabet: str | None = None,
        merges: str | None = None,
        lr: float = 3e-3,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
        optimizer: OptimizerCallable | None = None,
        schedule: Callable[[float, float], float] = warmup_cosine,
        compile_network: bool = False,
        predict_samples: int = 8,
        predict_length: int = 2000,
        sampling: Sampling = Sampling(),  # noqa: B008  frozen
        seed: int = 0,
        transfer: str | None = None,
    ) -> None:
        super().__init__(
            network, new_vocabulary(alphabet, merges), lr, optimizer, schedule, predict_samples,
            predict_length, sampling, seed, transfer,
        )  # fmt: skip
        save_plain_hyperparameters(self)
        self.weight_decay, self.betas = weight_decay, betas
        self.compile_network = compile_network

    def default_optimizer(self) -> Optimizer:
        parameters = list(self.network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, self.lr, self.betas, fused=self.takes_fused())

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.compile_network:
            self.network.compile()  # in place: names in checkpoints stay the same

    def check_batch(self, batch: Any) -> None:
        context = self.network.context
        length = batch["tokens"].shape[1] - 1
        if self.trainer.training and isinstance(context, int) and length > context:
            raise InputError(
                f"chunk_length is {length} and the network's context {context}: give"
                f" --data.chunk_length {context}, or --model.network.init_args.context {length}"
            )

    def training_logits(self, tokens: Tensor, restart: bool) -> Tensor:
        return self.network(tokens)[0]

    @torch.inference_mode()
    def activations(self, tokens: Tensor) -> Tensor:
        """Channels of each block's output (n, t, layers * width) after each of tokens (n, t)."""
        network = cast(CausalTransformer, self.network)
        with evaluating(network):
            outputs, _ = network.hidden(tokens.T.to(self.device))
        return torch.cat(outputs, -1).transpose(0, 1)
