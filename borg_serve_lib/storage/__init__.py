"""Where a repository's files live: the ports, the file system, and a twin in memory."""
