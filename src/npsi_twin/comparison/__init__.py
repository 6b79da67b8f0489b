"""Where truth, recovered and published numbers meet, and the only room that sees all three."""
