"""Adapter matrices to a file that other programs load."""
