"""Pieces that several tabs show: pictures, the progress of a run, and what a page has in common."""
