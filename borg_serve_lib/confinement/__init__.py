"""What this process gives up for good, so that a bug cannot do what policy forbids."""
