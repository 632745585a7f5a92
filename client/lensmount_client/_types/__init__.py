"""The frozen dataclasses that responses become. Nothing here parses."""
