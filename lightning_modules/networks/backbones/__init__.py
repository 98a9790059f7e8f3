"""Trained image networks by name, their layers by module name or as papers call them."""

from novum.lightning_modules.networks.backbones.backbone import Backbone

__all__ = ["Backbone"]
