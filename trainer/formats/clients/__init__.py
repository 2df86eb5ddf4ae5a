"""What other programs will do with an adapter file, by their own rules."""
