"""Who may use a repository when: borg's lock files, and a twin in memory."""
