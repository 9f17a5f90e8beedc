"""Values to decisions: who may connect, how many, and where to. The clock is an argument."""
