"""Ways to carry a connection's bytes."""
