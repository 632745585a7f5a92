"""The requests and answers that scripts send to other servers: thin shapes around the predictions of this one."""
