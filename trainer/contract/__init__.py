"""What the app and the trainer agree on: config, catalogue, run folder, errors. No torch, no diffusers."""
