"""Measuring costs: studies of speed and memory on one way of timing."""
