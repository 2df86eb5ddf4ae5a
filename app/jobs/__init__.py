"""The queue of trainings and the small supervisor that starts them, each in a process of its own."""
