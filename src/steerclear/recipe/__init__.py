"""The tree of settings that a command runs, built from the option classes of the stages."""
