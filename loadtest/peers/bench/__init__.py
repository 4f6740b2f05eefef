"""The parts of `make bench-peers`: what signs tokens, what is measured, what asks, and what is printed."""
