"""Filters on the way: what decides, row by row, whether a text is kept."""
