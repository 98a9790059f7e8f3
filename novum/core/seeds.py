"""Seeds that depend on nothing but what they are derived from."""

import hashlib

import torch


def derived_seed(*parts: int) -> int:
    """A seed for each (seed, step, rank): what torch draws from it depends on nothing else."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())


def random_generator(seed: int | None) -> torch.Generator:
    """A CPU generator at `seed`, or at a fresh one."""
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    return generator
