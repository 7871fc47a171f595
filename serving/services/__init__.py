"""Thin services: each call is convert, ask, convert back."""
