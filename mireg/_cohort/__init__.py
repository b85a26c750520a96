"""Many pairs: a table of them, workers, what is done already, results of all."""
