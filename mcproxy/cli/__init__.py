"""The commands: what an operator types."""
