"""Images and adapters of other servers, fetched only from hosts that the operator lists."""
