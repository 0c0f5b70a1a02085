"""Metrics of a dataset that need a trained model."""
