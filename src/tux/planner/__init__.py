"""Decides answers: from a request, read through a recording view, to a plan that the engine can replay."""
