"""The main() behind each program in scripts/: arguments in, a trained model and a table of results out."""
