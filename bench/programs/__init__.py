"""Small programs that are measured, or measure: each runs as a process of its own."""
