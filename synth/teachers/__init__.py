"""One module per teacher backend."""
