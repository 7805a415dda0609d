"""Rules and values only: no I/O, no clock, no environment. Everything here is tested with values alone."""
