"""What a trained model leaves behind in a run folder, and what the report is drawn from.

Above the models: a question that the tables ask is a method of a model.
"""

from vivace.tables.run import save_run, write_tables

__all__ = ["save_run", "write_tables"]
