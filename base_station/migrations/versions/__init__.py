"""One file per change of the tables, each after the one before."""
