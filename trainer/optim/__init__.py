"""Optimisers over an arena: ours, those of other packages, and what stands around them."""
