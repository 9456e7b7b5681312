"""Digitdrop: a hot folder for handwritten numbers."""
