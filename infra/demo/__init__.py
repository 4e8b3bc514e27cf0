"""The demo: a Python help desk that gets better from votes, through the public API and the commands alone.

Comes in: a seed and a size. Goes out: report.html and report.json in `.thumbwheel/demo`. Start reading at play.py;
symbols → phrasing → corpus make the base model's text, taste → raters → crowd make the votes.
"""
