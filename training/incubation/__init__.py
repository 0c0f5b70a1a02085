"""Incubator's teacher (2404.10877): pairs of instruction and dictionary, and the choice of diverse ones."""
