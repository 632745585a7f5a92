"""Rollouts: which version of an alias answers, what a new version shows next to the old one, and when it is taken back.

`lensmount_service.rollout_spec` says what a rollout is: it is below all rooms, because the store keeps rollouts.
"""
