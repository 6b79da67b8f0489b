"""What cycling does to an electrode: the paper's conditions, and ageing as a printable list of mechanisms."""
