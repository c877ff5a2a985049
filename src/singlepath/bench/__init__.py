"""Judging searches: tables of trained networks, and what is computed from them."""
