"""Who may come in: users and their sessions, and the guard that every request passes."""
