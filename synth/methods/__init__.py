"""One module per method; importing the registry imports them all."""
