"""Scores against truth that pixels or maps give: tasks, metrics, tables."""
