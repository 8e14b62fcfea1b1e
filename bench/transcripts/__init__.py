"""Recordings of real answers: taken from a source, or made of transcripts that exist already."""
