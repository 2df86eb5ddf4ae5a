"""How frozen weights are stored and multiplied: as they are, as int8, as NF4, or fetched from host memory."""
