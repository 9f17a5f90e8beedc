"""How operators write host names, addresses and durations, and the one form in which each is compared. Pure."""
