"""How corpus files are read, one module a format; each defines FORMAT."""
