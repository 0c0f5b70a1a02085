"""The command line and one thin module per job."""
