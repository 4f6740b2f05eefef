"""The parts of `make bench-peers`: the token issuer, the servers, the clients, and the result table."""
