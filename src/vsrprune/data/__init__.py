"""Clips: made from embedded photographs, or read from folders and video files."""
