"""Many trainings compared: the matrix of cells, their results, and the report about them."""
