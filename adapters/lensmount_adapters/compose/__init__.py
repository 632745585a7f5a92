"""A new adapter from several on one backbone: added, or merged by TIES or DARE."""
