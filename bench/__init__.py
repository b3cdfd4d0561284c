"""Measures the budgets of the design, each against its own baseline in the same run."""
