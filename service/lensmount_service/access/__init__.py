"""Who calls, and what they may do: tokens, identities, scopes, and the policy of every route."""
