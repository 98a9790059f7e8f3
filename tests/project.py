"""Where the repository is, whose programs tests run as a user would."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
