"""What the command line runs: the stages joined, one module a command. Library users call these functions too."""
