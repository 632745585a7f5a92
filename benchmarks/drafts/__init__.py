"""What first drafts are worth: see accuracy.py."""
