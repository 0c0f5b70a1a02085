"""Kinds of retrieval: each ranks the rows of an index for queries."""
