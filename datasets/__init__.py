"""Data sets: their sources, how these are checked, and the one form of all prepared sets."""
