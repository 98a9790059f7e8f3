"""TensorBoard's Novelty tab."""
