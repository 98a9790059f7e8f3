"""Trained image networks by name, their layers by module name or as papers call them."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.lightning_modules.networks.backbones.backbone import Backbone

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "Backbone",
]
