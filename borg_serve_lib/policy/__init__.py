"""What a connection may do: options, forced commands, paths and rights, as pure functions over frozen values."""
