"""Documents, encoders, FAISS shards and search."""
