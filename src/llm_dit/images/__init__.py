"""Reading pictures that a user gives."""
