"""Numbered SQL files, applied once and in order. Mistakes are mended by new files."""
