"""Settings of the filters on the way."""

from cluster.settings import Settings


class FilterSettings(Settings):
    """What a text must be, beside what its method asks, to be accepted."""
