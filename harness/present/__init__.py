"""Presenting results: tables, figures, report and tracked runs, all from records."""
