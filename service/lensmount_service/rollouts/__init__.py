"""Rollouts: which version of an alias answers, what a new version shows next to the old one, and when it is taken back.

`lensmount_service.rollout_spec` says what a rollout is: it is below all rooms, because the store keeps rollouts.

| state | threads | lock or owner |
|---|---|---|
| `Evidence._counts`, `._keys` | all | its own `_lock`; the keeper's thread takes the counts |
| `Pairs._waiting`, `._bytes` | requests append, its thread takes | its own `_wake` |
| `Keeper.running` | its thread writes, requests read | replaced as a whole |
| `Showing._known` | requests, the keeper's thread | replaced as a whole; two may compute the same |
| `rollout_counts`, `rollout_pairs` | all, of all servers | transactions of the database |
"""
