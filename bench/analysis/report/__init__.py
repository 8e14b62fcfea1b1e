"""What people see of a run: tables, pictures, the page, summary.csv, and the notebook's own questions."""
