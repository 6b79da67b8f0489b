"""The measurement side's last room: from attenuation to labels, and from labels to numbers with their spread.

`find_collector` and `segment` turn a reconstruction into phases without being told where anything is; `measure` turns
phases, true or recovered, into the same numbers.
"""
