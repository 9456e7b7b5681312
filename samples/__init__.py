"""Crops to try the watcher with, drawn by `draw.py`."""
