"""Visible checks of chapter 6."""
