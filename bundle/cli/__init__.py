"""The command line, and the checks of options and configs behind it."""
