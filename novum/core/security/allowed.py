"""The exact list of what untrusted files may name."""

import importlib
from functools import cache
from typing import Any

OURS = ("novum.lightning_modules", "novum.lightning_modules.networks", "novum.callbacks",
        "novum.datamodules")  # fmt: skip
NAMES = {  # by the module that publishes them
    "novum.lightning_modules.losses": (
        "hinge_discriminator_loss",
        "least_squares_discriminator_loss",
        "least_squares_generator_loss",
        "linear_generator_loss",
        "logistic_discriminator_loss",
        "minimax_generator_loss",
        "nonsaturating_generator_loss",
        "wasserstein_discriminator_loss",
    ),
    "novum.lightning_modules.schedules": (
        "char_rnn_decay",
        "constant",
        "cosine",
        "torch_rnn_decay",
        "warmup_cosine",
    ),
    "novum.lightning_modules.optimizers": ("DecayingMomentumSGD",),
    "torch.optim": ("Adam", "AdamW", "LBFGS", "NAdam", "RMSprop", "SGD"),
    "torch.nn": ("GRU", "Identity", "LSTM", "RNN"),
    "pytorch_lightning.callbacks": ("EarlyStopping", "LearningRateMonitor", "Timer"),
    "pytorch_lightning.loggers": ("CSVLogger", "TensorBoardLogger"),
    "pytorch_lightning.plugins.environments": ("SLURMEnvironment",),
    "pytorch_lightning.strategies": ("DDPStrategy",),
}
NOT_BUILT = {"Evaluation", "EvaluationCallback"}  # published for subclasses


def find_allowed(name: str) -> Any:
    """Return the class or function of that name; None unless it is on the list.

    A published name imports nothing but what it names.
    """
    module = _published().get(name)
    if module is None:
        return _by_name().get(name)
    return getattr(importlib.import_module(module), name.rpartition(".")[2])


def allowed_names() -> list[str]:
    """Every name on the list, in both spellings."""
    return list(_by_name())


@cache
def _published() -> dict[str, str]:
    """Modules by the names that they publish."""
    listed = {m: tuple(importlib.import_module(m).__all__) for m in OURS} | NAMES
    return {
        f"{module}.{name}": module
        for module, names in listed.items()
        for name in set(names) - NOT_BUILT
    }


@cache
def _by_name() -> dict[str, Any]:
    """The list by published names, and by the names of the modules that define them."""
    found = {}
    for name in _published():
        thing = find_allowed(name)
        found[name] = found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return found
