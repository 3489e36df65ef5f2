"""Data sets: where they come from, how they are checked, and the one form in which they leave."""
