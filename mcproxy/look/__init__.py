"""A look at a route's backend: whether it accepts a connection, and what it speaks there."""
