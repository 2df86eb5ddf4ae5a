"""Other programs' own loaders over our files."""
