"""Conversions between our models and those of other libraries."""
