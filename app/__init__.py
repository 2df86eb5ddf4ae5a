"""The `atelier` command and the page in the browser. Never imports torch; the trainer runs as a process of its own."""
