"""Functional forms of scaling laws, one file each."""
