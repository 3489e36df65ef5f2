"""Running cells: build a model, train it, draw or predict, score, and write the record."""
