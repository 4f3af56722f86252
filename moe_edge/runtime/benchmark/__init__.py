"""Measure models on the device that runs them: each subject in a process of its own, in alternating rounds."""
