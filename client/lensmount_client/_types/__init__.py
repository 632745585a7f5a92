"""Frozen values that answers are made of; nothing here parses."""
