"""Signature of configs that this user's own runs wrote, by a key that stays on this machine."""

import hashlib
import hmac
import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

SIGNED = re.compile(r"^# written here: ([0-9a-f]{64})$", re.MULTILINE)


def sign(text: str) -> str:
    """A comment that `is_own` recognises at the end of this config; '' if no key can be kept."""
    key = _key(make=True)
    return f"# written here: {_digest(key, yaml.safe_load(text))}\n" if key else ""


def is_own(text: str, config: Any) -> bool:
    """Return True if a run of this user wrote just this config, which `text` was parsed to."""
    found, key = SIGNED.search(text), _key(make=False)
    try:
        if found is None or not key:
            return False
        return hmac.compare_digest(found[1], _digest(key, config))
    except (TypeError, ValueError):  # keys of several types, huge numbers: no run writes them
        return False


def _digest(key: bytes, config: Any) -> str:
    plain = json.dumps(config, sort_keys=True, default=repr)
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


def _key(make: bool) -> bytes:
    """32 bytes that only this user can read; b'' if there is no such file."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(base).expanduser() / "novum" / "key"
    with suppress(OSError, RuntimeError):  # no home, or a read-only one
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(path, secrets.token_bytes(32))
        key = path.read_bytes()
        return key if len(key) == 32 else b""
    return b""


def _write_new(path: Path, key: bytes) -> None:
    """Whole, or not at all; another process may be faster."""
    part = path.with_name(f"key.{secrets.token_hex(4)}")
    with open(part, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(key)
    with suppress(FileExistsError):
        os.link(part, path)
    part.unlink()
