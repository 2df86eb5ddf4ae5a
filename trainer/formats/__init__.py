"""Adapter files as other programs see them: headers, key names, metadata, `parameters` text. No torch."""
