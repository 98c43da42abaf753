"""The server side of BorgBackup, as a library."""
