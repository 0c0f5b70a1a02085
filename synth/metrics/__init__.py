"""Metrics of a dataset that need no trained model."""
