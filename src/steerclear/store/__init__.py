"""What stays on disk between the stages: run folders, identities by content, locks, processes that share a folder."""
