"""The only room that touches a host: observe it, run a plan on it, print a plan as a script."""
