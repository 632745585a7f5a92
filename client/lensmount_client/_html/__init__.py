"""Answers as HTML for notebooks: image, bars, heat map and tables, without scripts and without outside requests."""
