"""Errors of Lightning and jsonargparse about a wrong value, as one line with the mend."""

import difflib
import re
import traceback
from collections.abc import Collection, Mapping

UNION = "Does not validate against any of the Union subtypes"
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
    "collections.abc.Iterable": "a list",
}
ALIASES = {  # what other programs call it -> what to write here
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "learning_rate": "model.lr",
    "resume": "ckpt_path last",
    "resume_from_checkpoint": "ckpt_path",
    "checkpoint": "ckpt_path",
    "steps": "trainer.max_steps",
    "workers": "data.num_workers",
}
NO_CLASS = re.compile(
    r"class_path '([\w.]+)': (?:module '[\w.]+' has no attribute '\w+'|No module named '([\w.]+)')"
)
UNKNOWN = re.compile(r"Option '([\w.]+)' is not|arguments?: --([\w.]+)|Key ['\"]([\w.]+)['\"] is")

# what Lightning's messages match, and what to do
MENDS = (
    (r"`(?:CUDA|MPS|XLA)Accelerator` can not run", "use --trainer.accelerator=auto or cpu"),
    (r"No supported gpu backend found", "use --trainer.accelerator=auto or cpu"),
    (r"torch_xla", "use --trainer.accelerator=auto or cpu"),
    (r"returned \d+, but learning rate finder", "leave LearningRateFinder out, and set model.lr"),
    (r"SWA currently works with", "leave it out: this technique averages its generator itself"),
    (r"Early stopping conditioned on metric", "set its monitor to one of them"),
    (r"multiple progress bar callbacks", "set trainer.callbacks to a list with one of them"),
    (r"is not in bounds, numpy accepts", "give --seed_everything a number from 0 up"),
    (r"Invalid learning rate", "give --model.init_args.lr a number from 0 up"),
    (r"invalid accelerator name", "use --trainer.accelerator=auto"),
    (r"requires a GPU accelerator", "use --trainer.strategy=ddp on CPUs"),
    (r"invalid strategy name", "use --trainer.strategy=auto or ddp"),
    (
        r"invalid value .* for (\w+)",
        "give --trainer.{0} a whole number of batches, or a share from 0.0 to 1.0",
    ),
    (r"`val_check_interval` should be an integer", "give a whole number of batches"),
    (
        r"gradient clipping is not supported for manual",
        "this technique steps its networks itself: leave out trainer.gradient_clip_val",
    ),
    (
        r"gradient accumulation is not supported for manual",
        "this technique steps its networks itself: leave out trainer.accumulate_grad_batches,"
        " raise batch_size",
    ),
    (r"is not a valid duration", "give --trainer.max_time=00:12:00:00 for twelve hours"),
    (r"Trainer\(devices=|`devices` selected with", "give --trainer.devices a number from 1 up"),
    (r"barebones=True", "leave out trainer.barebones, or set what it excludes to false or null"),
    (
        r"enable_checkpointing=False",
        "leave out --trainer.enable_checkpointing=false; --trainer.limit_val_batches=0 and a config"
        " without checkpoint callbacks keep none",
    ),
    (
        r"enable_progress_bar=False",
        "leave it out, or remove ProgressBar from trainer.callbacks in the config",
    ),
)


# what Lightning raises itself when settings do not fit together
COMPLAINTS = (RuntimeError, ValueError, TypeError, ImportError, NotImplementedError)
LIGHTNING = re.compile(r"[/\\](pytorch_lightning|lightning_fabric|torch[/\\]optim)[/\\]")


def complains(error: BaseException) -> bool:
    """Return True if Lightning, or an optimizer of torch, raised an error on purpose."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return bool(LIGHTNING.search(frame.filename)) and (frame.line or "").startswith("raise ")


def explain_lightning(error: BaseException) -> str:
    """First sentence of Lightning's message and the mend, where one is known."""
    text = " ".join(str(error).split())
    for pattern, mend in MENDS:
        if match := re.search(pattern, text):
            first = re.split(r"\.\s", text, maxsplit=1)[0].rstrip(".")
            return f"{first}: {mend.format(*match.groups())}"
    return text


def explain_value(message: str, known_names: Mapping[str, str]) -> str:
    """jsonargparse's message: the key, what it takes, what it got; for an unknown one a near name.

    Messages of another form keep their words, without the types that were tried and the whole text
    of the value.
    """
    body, _, given = message.partition("Given value type:")
    lines = [line.strip().removeprefix("- ") for line in body.splitlines()]
    lines = [
        x for x in lines if x and UNION not in x and not x.startswith(("Subtypes:", "Errors:"))
    ]
    key = re.fullmatch(r'Parser key "([^"]+)":', lines[0]) if lines else None
    given = given.partition("Given value:")[2].strip()
    if key and (expected := _expected(lines[1:], given, known_names)):
        return f"{key[1]}: {expected}"
    text = " ".join(x for x in lines if "<class 'NoneType'>" not in x)
    if found := NO_CLASS.search(text):
        key = re.match(r'Parser key "([^"]+)"', text)
        where = f"{key[1]}: " if key else ""
        if found[2]:
            mend = f": no module {found[2]} is installed or in the current folder"
        else:
            mend = did_you_mean(found[1].rsplit(".", 1)[-1], known_names, ": ")
        return f"{where}there is no class {found[1]}{mend}"
    if re.search(r"arguments are required: .*\b(model|data)\b", text):
        return f"{text}: give --config NAME, of those that --help lists or a file of yours"
    unknown = UNKNOWN.search(text)
    if unknown is None:
        return text
    path = next(group for group in unknown.groups() if group)
    name = path.rsplit(".", 1)[-1]
    if unknown[2] and name in ALIASES:
        return f"{text}; did you mean --{ALIASES[name]}?"
    if unknown[2] and "." not in path:  # it stands at the top, where few keys are
        near = difflib.get_close_matches(name, [n for n, key in known_names.items() if key], 1)
        return f"{text}; did you mean --{known_names[near[0]]}?" if near else text
    if name == "class_path":  # so it says where a key beside class_path is misspelt
        return f"{text} here: beside class_path only init_args can stand, is a key misspelt?"
    return text + did_you_mean(name, known_names, "; ")


def _expected(lines: list[str], given: str, known: Collection[str]) -> str:
    """Expected and given value, from one line for each type that was tried; '' if unclear."""
    kinds: list[str] = []
    for line in lines:
        line, ends, got = line.partition(". Got value:")
        given = given or got.strip() or (ends and "nothing")
        if name := re.fullmatch(r"Expected a dot import path string: (\S+)", line):
            return f"there is no class {name[1]}{did_you_mean(name[1], known, ': ')}"
        if literal := re.fullmatch(r"Expected a typing\.Literal\[(.*)\]", line):
            kinds += literal[1].replace("'", "").split(", ")
        elif kind := re.fullmatch(r"Expected a <class '([\w.]+)'>", line):
            kinds += [KINDS[kind[1]]] if kind[1] in KINDS else []
        elif line.startswith("Expected a tuple with "):
            kinds.append(line.removeprefix("Expected ").replace("tuple with", "list of"))
        elif not line.startswith("Expected a path but"):
            return ""
    kinds = list(dict.fromkeys(kinds))
    if not kinds or not given:
        return ""
    return f"expected {' or '.join(filter(None, (', '.join(kinds[:-1]), kinds[-1])))}, got {given}"


def did_you_mean(name: str, known: Collection[str], before: str) -> str:
    """'' if no known name is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"{before}did you mean {near[0]}?" if near else ""
