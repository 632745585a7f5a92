"""`lensmount doctor`: what this machine has for a client and a server, and a fix for each lack."""
