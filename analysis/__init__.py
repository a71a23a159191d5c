"""Folders of runs as tables, figures and reports. Every command runs as `python analysis/NAME.py` from anywhere."""
