"""Presets: partial training configs as TOML, and `demo`, the embedded base model with its sample pictures."""
