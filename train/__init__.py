"""Digitdrop's trainer: makes the network that the watcher serves, and measures it."""
