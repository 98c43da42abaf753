"""The protocol as bytes: requests in, replies and log lines out. Pure: nothing here reads or writes anything."""
