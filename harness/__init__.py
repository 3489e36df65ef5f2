"""The benchmark: contract, grid, trainer, evaluation, records, tables, figures, command line."""
