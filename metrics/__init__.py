"""Scores of generated series: one file a score, arrays in and numbers out."""
