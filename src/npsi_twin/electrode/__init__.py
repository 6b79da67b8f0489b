"""electrode."""
