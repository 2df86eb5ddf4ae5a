"""Scripts that make the embedded base model and the sample picture sets. See README.md beside this file."""
