"""The experiment scripts."""
