"""What `atelier COMMAND` does, a module for each kind of thing."""
