"""Pure compiler from a Spec and Facts to a Plan: reads no clock, host, file, environment or randomness."""
