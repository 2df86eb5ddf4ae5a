"""The embedded base model (`base/`), two sample picture sets (`style/`, `subject/`), and in `make/` what made them."""
