"""What is done with models beside training: automatic captions."""
