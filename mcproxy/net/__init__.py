"""The data path on gevent: listeners, sessions, relays, and the sweeper that ends the overdue."""
