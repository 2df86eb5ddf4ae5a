"""Adapter methods: one file each, found through the catalogue, all over one arena."""
