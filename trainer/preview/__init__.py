"""The image engine: one base, any mix of adapters, a strength for every picture and adapter."""
