"""Where the host's records of what happens go: reporters that write to files, to syslog, and to programs."""
