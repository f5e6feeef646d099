"""Scripts behind the figures and weights of this project; run from the repository root."""
