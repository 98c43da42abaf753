"""The repository engine: objects, transactions, recovery, compaction and check over the storage and lock ports."""
