"""DeepDream and class visualisation."""
