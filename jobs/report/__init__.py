"""The report: one HTML page and a dataset card, written from a run folder alone."""
