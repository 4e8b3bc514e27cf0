"""The front door: HTTP from clients, raters and operators in; engine requests, events and registry wishes out.

Start at `app` (the composition root) and `chat` (one answer from request to event).
"""
