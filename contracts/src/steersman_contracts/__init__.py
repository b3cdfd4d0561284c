"""What is on the wire between the services of Steersman: every struct, subject, error and hook.

Everything here is data. Nothing here does I/O, and nothing here imports another package of ours.
"""
